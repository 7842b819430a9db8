-- The books: what became of every row that was received. docs/SQL.md is the
-- guide, docs/decisions/130 says why they are kept in this way.

-- +goose Up

-- Two parties count, each by itself. The store counts in the transaction that
-- stores the rows: a row here for each batch, folded into device_counts by and
-- by. The gateway counts per session, and writes that some seconds later.
CREATE TABLE mooring.batches (
    owner     int8 NOT NULL,
    number    int8 NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    devices   int4[] NOT NULL,
    rows      int4[] NOT NULL,
    committed int4[],
    PRIMARY KEY (owner, number)
);
COMMENT ON TABLE mooring.batches IS 'What was stored a moment ago, by batch; written in the transaction that stores the rows. Read it through the view books.';
COMMENT ON COLUMN mooring.batches.owner IS 'the writing process, a random number';
COMMENT ON COLUMN mooring.batches.number IS 'rising per owner; tells a process whether a commit took place whose answer was lost';
COMMENT ON COLUMN mooring.batches.rows IS 'by device, in the order of devices: rows of the batch';
COMMENT ON COLUMN mooring.batches.committed IS 'of these the new ones, the others were stored before; NULL: all';

CREATE TABLE mooring.device_counts (
    device_id int4 PRIMARY KEY REFERENCES mooring.devices (id) ON DELETE CASCADE,
    committed int8 NOT NULL DEFAULT 0,
    duplicate int8 NOT NULL DEFAULT 0,
    old_in        int8 NOT NULL DEFAULT 0,
    old_committed int8 NOT NULL DEFAULT 0,
    old_duplicate int8 NOT NULL DEFAULT 0,
    old_refused   int8 NOT NULL DEFAULT 0,
    old_returned  int8 NOT NULL DEFAULT 0,
    old_unknown   int8 NOT NULL DEFAULT 0,
    old_lost      int8 NOT NULL DEFAULT 0,
    old_incomplete int8 NOT NULL DEFAULT 0,
    older     bool NOT NULL DEFAULT false
) WITH (fillfactor = 60);
COMMENT ON TABLE mooring.device_counts IS 'Rows stored of each device since the books began, but for those of batches. Read it through the view books.';
COMMENT ON COLUMN mooring.device_counts.old_in IS 'this and the following: sums over sessions whose own record was dropped for its age';
COMMENT ON COLUMN mooring.device_counts.old_unknown IS 'rows of incomplete sessions of which nobody said what became of them';
COMMENT ON COLUMN mooring.device_counts.older IS 'the device is older than the books: samples may hold more than they say';
INSERT INTO mooring.device_counts (device_id, older) SELECT id, true FROM mooring.devices;

ALTER TABLE mooring.sessions
    ADD COLUMN rows_waiting  int8 NOT NULL DEFAULT 0,
    ADD COLUMN rows_returned int8 NOT NULL DEFAULT 0,
    ADD COLUMN incomplete    bool NOT NULL DEFAULT false,
    ADD COLUMN booked        bool NOT NULL DEFAULT false;
COMMENT ON COLUMN mooring.sessions.rows_waiting IS 'received and not yet settled, as of last_seen_at';
COMMENT ON COLUMN mooring.sessions.rows_returned IS 'received and not acknowledged when the session ended: the device still has them and sends them again';
COMMENT ON COLUMN mooring.sessions.incomplete IS 'the counts are those of some seconds before the end: the server died, or gave up what waited';
COMMENT ON COLUMN mooring.sessions.booked IS 'the server that held it also wrote mooring.batches; false: from before there were books';

-- Adds what the batches of a process say, up to a number, to device_counts; and
-- those of processes that are long gone.
-- +goose StatementBegin
CREATE FUNCTION mooring.fold_batches(of_owner int8, up_to int8) RETURNS int8 LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM mooring.batches b
        WHERE b.owner = of_owner AND b.number <= up_to OR b.owner <> of_owner AND b.at < now() - interval '1 hour'
        RETURNING b.devices, b.rows, b.committed
    ), summed AS (
        SELECT u.device, sum(u.n) AS n, sum(coalesce(u.stored, u.n)) AS stored
        FROM gone CROSS JOIN LATERAL unnest(gone.devices, gone.rows, gone.committed) AS u (device, n, stored)
        GROUP BY u.device
    ), folded AS (
        INSERT INTO mooring.device_counts AS c (device_id, committed, duplicate)
        SELECT s.device, s.stored, s.n - s.stored FROM summed s JOIN mooring.devices d ON d.id = s.device
        ORDER BY s.device
        ON CONFLICT (device_id) DO UPDATE
        SET committed = c.committed + EXCLUDED.committed, duplicate = c.duplicate + EXCLUDED.duplicate
    )
    SELECT count(*) FROM gone;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.fold_batches(int8, int8) IS 'For the server: part of the view books.';

-- Of the rows that the store counted, unreported are those that no session's
-- record mentions: its server writes that some seconds later, or died before it
-- could. They are first taken for the rows that were waiting, then for those of
-- incomplete sessions that nobody heard of again, then for rows received since.
-- Where neither an open nor an incomplete session explains them, they are a
-- difference; so is every row that a session calls stored and the store does not.
CREATE VIEW mooring.books AS
SELECT d.name AS device,
    k.rows_in + greatest(0, k.unreported - k.waiting - k.unknown) AS received,
    k.committed, k.duplicate, k.refused,
    k.returned + greatest(0, k.unknown - greatest(0, k.unreported - k.waiting)) AS returned,
    greatest(0, k.waiting - k.unreported) AS waiting,
    k.rows_in + greatest(0, k.unreported - k.waiting - k.unknown)
        - k.committed - k.duplicate - k.refused
        - k.returned - greatest(0, k.unknown - greatest(0, k.unreported - k.waiting))
        - greatest(0, k.waiting - k.unreported) AS difference,
    k.unreported, k.lost_by_device, k.open_sessions, k.incomplete_sessions, k.older
FROM mooring.devices d
CROSS JOIN LATERAL (
    SELECT coalesce(c.committed, 0) + coalesce(p.committed, 0) AS committed,
        coalesce(c.duplicate, 0) + coalesce(p.duplicate, 0) AS duplicate,
        coalesce(c.old_in, 0) + s.rows_in AS rows_in,
        coalesce(c.old_refused, 0) + s.refused AS refused,
        coalesce(c.old_returned, 0) + s.returned AS returned,
        coalesce(c.old_unknown, 0) + s.unknown AS unknown,
        coalesce(c.old_lost, 0) + s.lost AS lost_by_device,
        coalesce(c.older, false) AS older, s.waiting, s.open_sessions, s.incomplete_sessions + coalesce(c.old_incomplete, 0) AS incomplete_sessions,
        CASE WHEN s.open_sessions + s.incomplete_sessions + coalesce(c.old_incomplete, 0) > 0
            THEN greatest(0, coalesce(c.committed + c.duplicate, 0) + coalesce(p.committed + p.duplicate, 0)
                - coalesce(c.old_committed + c.old_duplicate, 0) - s.stored)
            ELSE 0 END AS unreported
    FROM (
        SELECT coalesce(sum(x.rows_in), 0)::int8 AS rows_in,
            coalesce(sum(x.rows_committed + x.rows_duplicate), 0)::int8 AS stored,
            coalesce(sum(x.rows_rejected), 0)::int8 AS refused,
            coalesce(sum(x.rows_returned) FILTER (WHERE NOT x.incomplete), 0)::int8 AS returned,
            coalesce(sum(x.rows_waiting + x.rows_returned) FILTER (WHERE x.incomplete), 0)::int8 AS unknown,
            coalesce(sum(x.rows_waiting) FILTER (WHERE NOT x.incomplete), 0)::int8 AS waiting,
            coalesce(sum(x.rows_lost_by_device), 0)::int8 AS lost,
            count(*) FILTER (WHERE x.disconnected_at IS NULL) AS open_sessions,
            count(*) FILTER (WHERE x.incomplete) AS incomplete_sessions
        FROM mooring.sessions x WHERE x.device_id = d.id AND x.booked
    ) s
    LEFT JOIN mooring.device_counts c ON c.device_id = d.id
    LEFT JOIN (
        SELECT u.device, sum(coalesce(u.stored, u.n))::int8 AS committed, sum(u.n - coalesce(u.stored, u.n))::int8 AS duplicate
        FROM mooring.batches b CROSS JOIN LATERAL unnest(b.devices, b.rows, b.committed) AS u (device, n, stored)
        GROUP BY u.device
    ) p ON p.device = d.id
) k;

COMMENT ON VIEW mooring.books IS 'What became of every row that was received, by device, since the books began: received = committed + duplicate + refused + returned + waiting, and difference is what is wrong with that. Filter by device.';
COMMENT ON COLUMN mooring.books.received IS 'rows decoded, again included; of a server that was killed, those that it is known to have received';
COMMENT ON COLUMN mooring.books.committed IS 'rows stored, counted in the transaction that stored them; retention and purging change nothing here';
COMMENT ON COLUMN mooring.books.duplicate IS 'rows that were stored before';
COMMENT ON COLUMN mooring.books.refused IS 'whole rows refused, by the server or by the database';
COMMENT ON COLUMN mooring.books.returned IS 'rows not acknowledged when their session or their server ended: the device still has them and sends them again';
COMMENT ON COLUMN mooring.books.waiting IS 'rows received and not yet stored, as of half a minute ago at most';
COMMENT ON COLUMN mooring.books.difference IS 'must be 0, always';
COMMENT ON COLUMN mooring.books.unreported IS 'stored rows that no record of a session mentions: of an open one, whose record is half a minute old at most, or of a server that died';
COMMENT ON COLUMN mooring.books.lost_by_device IS 'sequence numbers left out: rows that the device gave up before it sent them; not part of the sum';
COMMENT ON COLUMN mooring.books.incomplete_sessions IS 'sessions whose server died, or gave up what waited, before it wrote the last counts';
COMMENT ON COLUMN mooring.books.older IS 'the device is older than the books, which then say nothing of its first rows';

CREATE VIEW mooring.books_in_all AS
SELECT count(*) AS devices, coalesce(sum(received), 0)::int8 AS received, coalesce(sum(committed), 0)::int8 AS committed,
    coalesce(sum(duplicate), 0)::int8 AS duplicate, coalesce(sum(refused), 0)::int8 AS refused,
    coalesce(sum(returned), 0)::int8 AS returned, coalesce(sum(waiting), 0)::int8 AS waiting,
    coalesce(sum(abs(difference)), 0)::int8 AS difference, count(*) FILTER (WHERE difference <> 0) AS devices_with_difference,
    coalesce(sum(unreported), 0)::int8 AS unreported, coalesce(sum(lost_by_device), 0)::int8 AS lost_by_device
FROM mooring.books;
COMMENT ON VIEW mooring.books_in_all IS 'The books of all devices in one row. Reads every record of a session.';
COMMENT ON COLUMN mooring.books_in_all.difference IS 'sum of the devices'' differences, each without its sign, so that no two cancel out';

-- Handshakes that were refused although the device is known, by reason: why a
-- device stays away. One row for each device and reason, however often.
CREATE TABLE mooring.refused_handshakes (
    device_id int4 NOT NULL REFERENCES mooring.devices (id) ON DELETE CASCADE,
    reason    text NOT NULL,
    times     int8 NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    gateway   text NOT NULL,
    remote    text,
    PRIMARY KEY (device_id, reason)
) WITH (fillfactor = 60);
COMMENT ON TABLE mooring.refused_handshakes IS 'Why devices that are known were not let in; one row for each device and reason. Written every few seconds.';
COMMENT ON COLUMN mooring.refused_handshakes.reason IS 'disabled, revoked, expired, other_name: a good token under another device''s name, unknown_token: under this device''s name, and others as servers name them';
COMMENT ON COLUMN mooring.refused_handshakes.times IS 'since first_at; less than it was if servers had too many to write down';
COMMENT ON COLUMN mooring.refused_handshakes.remote IS 'where the last one came from';

-- As before, with what is new here.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION mooring.grant_reads() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    relation text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mooring_reader') THEN
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA mooring, mooring_layout TO mooring_reader;
    FOREACH relation IN ARRAY ARRAY['readings', 'latest', 'device_status', 'gaps', 'refusals', 'layout_views',
        'samples', 'layouts', 'channels', 'device_layouts', 'latest_pending', 'rejects', 'devices', 'sessions', 'gateways', 'commands',
        'books', 'books_in_all', 'batches', 'device_counts', 'refused_handshakes']
    LOOP
        PERFORM mooring.grant_read('mooring.' || relation);
    END LOOP;
    GRANT SELECT ON ALL TABLES IN SCHEMA mooring_layout TO mooring_reader;
    ALTER DEFAULT PRIVILEGES IN SCHEMA mooring_layout GRANT SELECT ON TABLES TO mooring_reader;
    IF EXISTS (SELECT FROM pg_roles, unnest(rolconfig) AS setting WHERE rolname = 'mooring_reader' AND setting LIKE 'search_path=%mooring_layout%') THEN
        RETURN; -- somebody has seen to it, for all databases
    END IF;
    BEGIN
        EXECUTE format('ALTER ROLE mooring_reader IN DATABASE %I SET search_path = mooring, mooring_layout, public', current_database());
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'search_path of mooring_reader not set: % may not alter the role', current_user
            USING HINT = format('Readers write mooring.readings instead of readings, or somebody with CREATEROLE runs: ALTER ROLE mooring_reader IN DATABASE %I SET search_path = mooring, mooring_layout, public;', current_database());
    END;
END $$;
-- +goose StatementEnd
SELECT mooring.grant_reads();
REVOKE EXECUTE ON FUNCTION mooring.fold_batches(int8, int8) FROM PUBLIC;
