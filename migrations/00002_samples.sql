-- Samples and what describes them. docs/SQL.md is the guide for readers.

-- +goose Up

-- Views of single layouts live apart from the tables, so that a device may name
-- its layout "samples" or "devices" and break nothing.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regnamespace('mooring_layout') IS NULL THEN
        CREATE SCHEMA mooring_layout;
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON SCHEMA mooring IS 'Mooring: devices and their readings. Start with the views readings and latest.';
COMMENT ON SCHEMA mooring_layout IS 'Mooring: one wide view per layout name, kept by the server.';

CREATE TABLE mooring.layouts (
    id          int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    fingerprint bytea NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX layouts_name ON mooring.layouts (name);
COMMENT ON TABLE mooring.layouts IS 'Layouts that devices have declared. Layouts of the same content are one layout, whoever declares it.';
COMMENT ON COLUMN mooring.layouts.name IS 'as declared; several layouts may share a name: versions of each other';
COMMENT ON COLUMN mooring.layouts.fingerprint IS 'identity of the content, SHA-256 (wire.FingerprintLayout)';

CREATE TABLE mooring.channels (
    layout_id int4 NOT NULL REFERENCES mooring.layouts (id) ON DELETE CASCADE,
    pos       int2 NOT NULL CHECK (pos >= 1),
    name      text NOT NULL,
    unit      text,
    kind      int2 NOT NULL CHECK (kind IN (0, 1, 2)),
    exp10     int2 NOT NULL DEFAULT 0,
    PRIMARY KEY (layout_id, pos)
);
CREATE INDEX channels_name ON mooring.channels (name);
COMMENT ON TABLE mooring.channels IS 'The channels of a layout, in order.';
COMMENT ON COLUMN mooring.channels.pos IS 'subscript into samples.vals and samples.texts, from 1';
COMMENT ON COLUMN mooring.channels.unit IS 'as declared; NULL: none';
COMMENT ON COLUMN mooring.channels.kind IS '0 number, 1 bool (stored as 0 and 1), 2 text';
COMMENT ON COLUMN mooring.channels.exp10 IS 'what integers on the wire are scaled by, as first declared; stored values are scaled already';

-- No foreign keys here: each would cost a look-up per row, and the ids are
-- checked before a row is written. The order of the columns is that of their
-- alignment: 8, 8, 4, 4, variable.
CREATE TABLE mooring.samples (
    ts        timestamptz NOT NULL,
    seq       int8 NOT NULL,
    device_id int4 NOT NULL,
    layout_id int4 NOT NULL,
    vals      float8[] NOT NULL,
    texts     text[],
    PRIMARY KEY (device_id, ts, seq)
) PARTITION BY RANGE (ts);
CREATE INDEX samples_ts ON mooring.samples USING brin (ts) WITH (autosummarize = on);
COMMENT ON TABLE mooring.samples IS 'One row per sample: the readings of one layout at one time. Read it through the view readings.';
COMMENT ON COLUMN mooring.samples.seq IS 'the device''s own number of the row; (device_id, ts, seq) is its identity';
COMMENT ON COLUMN mooring.samples.vals IS 'by channel position; numbers, and bools as 0 and 1; NULL: no reading, or a text';
COMMENT ON COLUMN mooring.samples.texts IS 'by channel position; NULL as a whole when the row holds no text';

CREATE TABLE mooring.rejects (
    id        int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    device_id int4 NOT NULL,
    seq       int8 NOT NULL,
    n         int8 NOT NULL,
    channel   text,
    code      text NOT NULL,
    detail    text NOT NULL,
    raw       bytea
);
CREATE INDEX rejects_device_id ON mooring.rejects (device_id, at);
CREATE INDEX rejects_at ON mooring.rejects USING brin (at);
COMMENT ON TABLE mooring.rejects IS 'What was refused, and why. Limited per device and minute; what went over the limit is summed up in a row of code NOT_RECORDED.';
COMMENT ON COLUMN mooring.rejects.seq IS 'first of the rows refused';
COMMENT ON COLUMN mooring.rejects.n IS 'number of rows, from seq on; for NOT_RECORDED the number of refusals';
COMMENT ON COLUMN mooring.rejects.channel IS 'the channel whose value was refused, the rest of the row is stored; NULL: the whole rows';
COMMENT ON COLUMN mooring.rejects.code IS 'as in PROTOCOL.md, in words: TYPE, RANGE, TIME_PAST, …';
COMMENT ON COLUMN mooring.rejects.raw IS 'the beginning of the frame as it came, MessagePack';

-- What a device sends, with the last known value of every channel. The arrays
-- are by channel position and are brought up to date in the background; rows
-- that they may lack are found through latest_pending.
CREATE TABLE mooring.device_layouts (
    device_id   int4 NOT NULL,
    layout_id   int4 NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    known_ts    timestamptz[],
    known_seq   int8[],
    known_vals  float8[],
    known_texts text[],
    PRIMARY KEY (device_id, layout_id)
) WITH (fillfactor = 60);
COMMENT ON TABLE mooring.device_layouts IS 'Which device uses which layouts, and the last known value of every channel as of some seconds ago. Read it through the view latest.';
COMMENT ON COLUMN mooring.device_layouts.known_ts IS 'by channel position: when the channel last had a reading; NULL: never';

-- Written in the transaction that stores the rows it covers, so no crash can
-- separate them. Small: one row per device that is sending.
CREATE TABLE mooring.latest_pending (
    owner     int8 NOT NULL,
    number    int8 NOT NULL,
    device_id int4 NOT NULL,
    layout_id int4 NOT NULL,
    since     timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    marked_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX latest_pending_device_id ON mooring.latest_pending (device_id, layout_id);
COMMENT ON TABLE mooring.latest_pending IS 'Where samples may lie that device_layouts does not know of yet. The view latest looks there.';
COMMENT ON COLUMN mooring.latest_pending.owner IS 'the writing process, a random number';
COMMENT ON COLUMN mooring.latest_pending.number IS 'rising per owner';

CREATE TABLE mooring.layout_views (
    layout     text PRIMARY KEY,
    view       text NOT NULL,
    versions   int4 NOT NULL,
    problem    text,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mooring.layout_views IS 'The wide views in schema mooring_layout.';
COMMENT ON COLUMN mooring.layout_views.view IS 'name of the view; differs from the layout''s only where Postgres can''t take that';
COMMENT ON COLUMN mooring.layout_views.versions IS 'how many layouts of this name the view covers';
COMMENT ON COLUMN mooring.layout_views.problem IS 'what is not as one would expect, in words; NULL: nothing';
