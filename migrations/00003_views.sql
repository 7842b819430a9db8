-- What people read, and what keeps it fast. docs/SQL.md is the guide.

-- +goose Up

CREATE VIEW mooring.readings AS
SELECT s.ts, d.name AS device, c.name AS metric, s.vals[c.pos] AS value, s.texts[c.pos] AS text, c.unit, s.seq
FROM mooring.devices d
JOIN mooring.samples s ON s.device_id = d.id
JOIN mooring.channels c ON c.layout_id = s.layout_id
WHERE s.vals[c.pos] IS NOT NULL OR s.texts[c.pos] IS NOT NULL;

COMMENT ON VIEW mooring.readings IS 'Every reading: one row per channel and time. Filter by device, metric and ts: all three reach the index.';
COMMENT ON COLUMN mooring.readings.ts IS 'when it was measured, by the device''s clock';
COMMENT ON COLUMN mooring.readings.device IS 'name of the device';
COMMENT ON COLUMN mooring.readings.metric IS 'name of the channel';
COMMENT ON COLUMN mooring.readings.value IS 'the number; 0 or 1 for a bool; NULL for a text';
COMMENT ON COLUMN mooring.readings.text IS 'the text; NULL for a number';
COMMENT ON COLUMN mooring.readings.unit IS 'as the device declared it; NULL: none';
COMMENT ON COLUMN mooring.readings.seq IS 'the device''s number of the row that the reading came in';

-- The same for one device and a stretch of time. It is planned with the values
-- at hand, so its cost does not grow with the number of partitions; the view's
-- planning does when the time is not a constant, as in now() - interval '1 hour'.
-- +goose StatementBegin
CREATE FUNCTION mooring.readings_of(of_device text, since timestamptz, until timestamptz DEFAULT 'infinity', of_metric text DEFAULT NULL)
RETURNS TABLE (ts timestamptz, device text, metric text, value float8, text text, unit text, seq int8)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN QUERY
    SELECT r.ts, r.device, r.metric, r.value, r.text, r.unit, r.seq FROM mooring.readings r
    WHERE r.device = of_device AND r.ts >= since AND r.ts < until AND (of_metric IS NULL OR r.metric = of_metric)
    ORDER BY r.ts, r.seq, r.metric;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.readings_of(text, timestamptz, timestamptz, text) IS
'The readings of one device from since until (excluded), of one metric or all. As fast with a thousand partitions as with one.';

-- The newest reading of every channel of a layout among the samples of a
-- stretch of time.
-- +goose StatementBegin
CREATE FUNCTION mooring.newest_readings(of_device int4, of_layout int4, since timestamptz, until timestamptz)
RETURNS TABLE (pos int2, ts timestamptz, seq int8, value float8, text text)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10 SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    newest mooring.samples;
    missing int2[];
BEGIN
    SELECT s.* INTO newest FROM mooring.samples s
    WHERE s.device_id = of_device AND s.ts >= since AND s.ts <= until AND s.layout_id = of_layout
    ORDER BY s.ts DESC, s.seq DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Mostly the newest sample has a reading of every channel.
    RETURN QUERY
    SELECT c.pos, newest.ts, newest.seq, newest.vals[c.pos], newest.texts[c.pos] FROM mooring.channels c
    WHERE c.layout_id = of_layout AND (newest.vals[c.pos] IS NOT NULL OR newest.texts[c.pos] IS NOT NULL);
    SELECT array_agg(c.pos) INTO missing FROM mooring.channels c
    WHERE c.layout_id = of_layout AND newest.vals[c.pos] IS NULL AND newest.texts[c.pos] IS NULL;
    IF missing IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT DISTINCT ON (m.pos) m.pos, s.ts, s.seq, s.vals[m.pos], s.texts[m.pos]
    FROM mooring.samples s CROSS JOIN unnest(missing) AS m (pos)
    WHERE s.device_id = of_device AND s.ts >= since AND s.ts <= until AND s.layout_id = of_layout
    AND (s.vals[m.pos] IS NOT NULL OR s.texts[m.pos] IS NOT NULL)
    ORDER BY m.pos, s.ts DESC, s.seq DESC;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.newest_readings(int4, int4, timestamptz, timestamptz) IS 'Part of the view latest.';

-- Brings last known values of a pair to device_layouts, clears the owner's marks
-- up to a number, and sets a new one if there is more to come (since not NULL).
-- The greater (ts, seq) wins, so calls may come in any order, from any process.
-- +goose StatementBegin
CREATE FUNCTION mooring.settle_latest(of_owner int8, up_to int8, of_device int4, of_layout int4,
    new_ts timestamptz[], new_seq int8[], new_vals float8[], new_texts text[], since timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(new_ts) > 0 THEN
        INSERT INTO mooring.device_layouts AS d (device_id, layout_id, known_ts, known_seq, known_vals, known_texts)
        VALUES (of_device, of_layout, new_ts, new_seq, new_vals, new_texts)
        ON CONFLICT (device_id, layout_id) DO UPDATE
        SET (known_ts, known_seq, known_vals, known_texts) = (
            SELECT array_agg(CASE WHEN newer THEN n.ts ELSE o.ts END ORDER BY pos),
                   array_agg(CASE WHEN newer THEN n.seq ELSE o.seq END ORDER BY pos),
                   array_agg(CASE WHEN newer THEN n.val ELSE o.val END ORDER BY pos),
                   array_agg(CASE WHEN newer THEN n.txt ELSE o.txt END ORDER BY pos)
            FROM unnest(d.known_ts, d.known_seq, d.known_vals, d.known_texts) WITH ORDINALITY AS o (ts, seq, val, txt, pos)
            FULL JOIN unnest(new_ts, new_seq, new_vals, new_texts) WITH ORDINALITY AS n (ts, seq, val, txt, pos) USING (pos)
            CROSS JOIN LATERAL (SELECT n.ts IS NOT NULL AND (o.ts IS NULL OR (n.ts, n.seq) >= (o.ts, o.seq))) AS c (newer)
        );
    END IF;
    DELETE FROM mooring.latest_pending p
    WHERE p.device_id = of_device AND p.layout_id = of_layout AND p.owner = of_owner AND p.number <= up_to;
    IF since IS NOT NULL THEN
        INSERT INTO mooring.latest_pending (owner, number, device_id, layout_id, since, until)
        VALUES (of_owner, up_to, of_device, of_layout, since, 'infinity');
    END IF;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.settle_latest(int8, int8, int4, int4, timestamptz[], int8[], float8[], text[], timestamptz) IS 'For the server: part of the view latest.';

-- Does the same for marks that their owners, gone for ten minutes, can't clear.
-- A living owner renews its marks twice a minute.
-- +goose StatementBegin
CREATE FUNCTION mooring.recover_latest(max_marks int4) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
    mark record;
    done int4 := 0;
BEGIN
    FOR mark IN
        SELECT * FROM mooring.latest_pending WHERE marked_at < now() - interval '10 minutes'
        ORDER BY device_id, layout_id LIMIT max_marks FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM mooring.settle_latest(mark.owner, mark.number, mark.device_id, mark.layout_id,
            array_agg(n.ts ORDER BY c.pos), array_agg(n.seq ORDER BY c.pos),
            array_agg(n.value ORDER BY c.pos), array_agg(n.text ORDER BY c.pos), NULL)
        FROM mooring.channels c
        LEFT JOIN mooring.newest_readings(mark.device_id, mark.layout_id, mark.since, mark.until) n ON n.pos = c.pos
        WHERE c.layout_id = mark.layout_id;
        done := done + 1;
    END LOOP;
    RETURN done;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.recover_latest(int4) IS 'For the server: part of the view latest.';

CREATE VIEW mooring.latest AS
SELECT d.name AS device, l.metric, l.ts, l.value, l.text, l.unit
FROM mooring.devices d
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (c.name) c.name AS metric, k.ts, k.value, k.text, c.unit
    FROM (
        SELECT dl.layout_id, o.pos::int2, o.ts, o.seq, o.value, o.text
        FROM mooring.device_layouts dl
        CROSS JOIN LATERAL unnest(dl.known_ts, dl.known_seq, dl.known_vals, dl.known_texts) WITH ORDINALITY AS o (ts, seq, value, text, pos)
        WHERE dl.device_id = d.id AND o.ts IS NOT NULL
        UNION ALL
        SELECT p.layout_id, n.pos, n.ts, n.seq, n.value, n.text
        FROM mooring.latest_pending p
        CROSS JOIN LATERAL mooring.newest_readings(p.device_id, p.layout_id, p.since, p.until) n
        WHERE p.device_id = d.id
    ) AS k
    JOIN mooring.channels c ON c.layout_id = k.layout_id AND c.pos = k.pos
    ORDER BY c.name, k.ts DESC, k.seq DESC
) AS l;

COMMENT ON VIEW mooring.latest IS 'The last known reading of every metric of every device, also after retention has dropped the sample. Filter by device.';
COMMENT ON COLUMN mooring.latest.device IS 'name of the device';
COMMENT ON COLUMN mooring.latest.metric IS 'name of the channel; if several layouts of the device have it, the newest reading of all';
COMMENT ON COLUMN mooring.latest.ts IS 'when it was measured, by the device''s clock';
COMMENT ON COLUMN mooring.latest.value IS 'the number; 0 or 1 for a bool; NULL for a text';
COMMENT ON COLUMN mooring.latest.text IS 'the text; NULL for a number';
COMMENT ON COLUMN mooring.latest.unit IS 'as the device declared it; NULL: none';

CREATE VIEW mooring.device_status AS
SELECT d.name AS device,
    coalesce(s.disconnected_at IS NULL AND g.lease_until > now(), false) AS online,
    CASE
        WHEN s.id IS NULL THEN NULL
        WHEN s.disconnected_at IS NOT NULL THEN s.disconnected_at
        WHEN g.lease_until > now() THEN s.connected_at
        ELSE coalesce(g.lease_until, s.last_seen_at)
    END AS since,
    s.last_seen_at AS last_seen,
    e.close_code AS last_close_code,
    e.reason AS last_close_reason,
    s.connected_at, s.remote, s.gateway, s.firmware, d.model, d.disabled, d.labels
FROM mooring.devices d
LEFT JOIN LATERAL (
    SELECT * FROM mooring.sessions x WHERE x.device_id = d.id ORDER BY x.id DESC LIMIT 1
) s ON true
LEFT JOIN mooring.gateways g ON g.incarnation = s.incarnation
LEFT JOIN LATERAL (
    SELECT x.close_code, x.reason FROM mooring.sessions x
    WHERE x.device_id = d.id AND x.disconnected_at IS NOT NULL ORDER BY x.id DESC LIMIT 1
) e ON true;

COMMENT ON VIEW mooring.device_status IS 'Which devices are connected now, and how the others left.';
COMMENT ON COLUMN mooring.device_status.online IS 'connected to a server that lives';
COMMENT ON COLUMN mooring.device_status.since IS 'since when online is what it is; NULL: never connected';
COMMENT ON COLUMN mooring.device_status.last_seen IS 'when the server last heard of it, give or take some seconds';
COMMENT ON COLUMN mooring.device_status.last_close_code IS 'of the newest session that has ended; NULL: nobody saw it end';
COMMENT ON COLUMN mooring.device_status.last_close_reason IS 'the same in words';

-- The sequence numbers that are missing between two samples that follow each
-- other in time. A number that is not higher than the one before is a reboot.
-- +goose StatementBegin
CREATE FUNCTION mooring.gaps_of(of_device text, since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (device text, boot int8, first_missing int8, last_missing int8, missing int8, refused int8, after_ts timestamptz, before_ts timestamptz)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    of_id int4 := (SELECT d.id FROM mooring.devices d WHERE d.name = of_device);
BEGIN
    RETURN QUERY
    SELECT of_device, g.boot, g.before_seq + 1, g.seq - 1, g.seq - 1 - g.before_seq,
        (SELECT coalesce(sum(least(r.seq + r.n, g.seq) - greatest(r.seq, g.before_seq + 1)), 0)::int8 FROM mooring.rejects r
         WHERE r.device_id = of_id AND r.channel IS NULL AND r.code <> 'NOT_RECORDED'
         AND r.seq < g.seq AND r.seq + r.n > g.before_seq + 1),
        g.before_ts, g.ts
    FROM (
        SELECT x.ts, x.seq, x.before_ts, x.before_seq,
            1 + count(*) FILTER (WHERE x.seq <= x.before_seq) OVER (ORDER BY x.ts, x.seq) AS boot
        FROM (
            SELECT s.ts, s.seq, lag(s.ts) OVER w AS before_ts, lag(s.seq) OVER w AS before_seq
            FROM mooring.samples s WHERE s.device_id = of_id AND s.ts >= gaps_of.since AND s.ts < gaps_of.until
            WINDOW w AS (ORDER BY s.ts, s.seq)
        ) x
    ) g
    WHERE g.seq > g.before_seq + 1
    ORDER BY g.ts;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.gaps_of(text, timestamptz, timestamptz) IS
'The missing sequence numbers of one device among the samples from since until (excluded). Reads them all, so name a time.';

CREATE VIEW mooring.gaps AS
SELECT d.name AS device, g.boot, g.first_missing, g.last_missing, g.missing, g.refused, g.after_ts, g.before_ts
FROM mooring.devices d CROSS JOIN LATERAL mooring.gaps_of(d.name) g;
COMMENT ON VIEW mooring.gaps IS 'Missing sequence numbers of every device: rows that it gave up, or that were refused. Reads all samples of the devices it is asked for; mooring.gaps_of takes a time.';
COMMENT ON COLUMN mooring.gaps.boot IS 'counts the times that the sequence numbers began anew, from 1';
COMMENT ON COLUMN mooring.gaps.missing IS 'how many numbers are missing';
COMMENT ON COLUMN mooring.gaps.refused IS 'how many of these are on record as refused; the others the device gave up';
COMMENT ON COLUMN mooring.gaps.after_ts IS 'time of the sample before the gap';
COMMENT ON COLUMN mooring.gaps.before_ts IS 'time of the sample after the gap';

CREATE VIEW mooring.refusals AS
SELECT r.at, d.name AS device, r.code, r.channel AS metric, r.detail, r.seq, r.n, r.raw
FROM mooring.rejects r JOIN mooring.devices d ON d.id = r.device_id;
COMMENT ON VIEW mooring.refusals IS 'What was refused, and why. Of each device a limited number per minute; the rest is summed up in rows of code NOT_RECORDED.';
COMMENT ON COLUMN mooring.refusals.at IS 'when the server refused it';
COMMENT ON COLUMN mooring.refusals.metric IS 'the channel whose value was refused, the rest of the row is stored; NULL: whole rows';
COMMENT ON COLUMN mooring.refusals.n IS 'number of rows, from seq on; for NOT_RECORDED the number of refusals';
COMMENT ON COLUMN mooring.refusals.raw IS 'the beginning of the frame as it came, MessagePack';

-- Rights of readers. The role belongs to the whole cluster, so somebody else may
-- have to create it, or be creating it right now for another database.
-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mooring_reader') THEN
        -- The owner becomes a member, so that `mooring dsn` can take the role on.
        CREATE ROLE mooring_reader NOLOGIN ROLE CURRENT_USER;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'role mooring_reader does not exist and % may not create it', current_user
            USING HINT = 'Have somebody with CREATEROLE run: CREATE ROLE mooring_reader; then run: SELECT mooring.grant_reads();';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.grant_read(relation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mooring_reader') THEN
        EXECUTE 'GRANT SELECT ON ' || relation::regclass || ' TO mooring_reader';
    END IF;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.grant_read(text) IS 'For the server: lets mooring_reader read a relation, if there is such a role.';

-- Everything but tokens and what is internal. The tables samples, channels,
-- device_layouts and latest_pending are read by functions in the reader's name.
-- +goose StatementBegin
CREATE FUNCTION mooring.grant_reads() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    relation text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mooring_reader') THEN
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA mooring, mooring_layout TO mooring_reader;
    FOREACH relation IN ARRAY ARRAY['readings', 'latest', 'device_status', 'gaps', 'refusals', 'layout_views',
        'samples', 'layouts', 'channels', 'device_layouts', 'latest_pending', 'rejects', 'devices', 'sessions', 'gateways', 'commands']
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
COMMENT ON FUNCTION mooring.grant_reads() IS 'Gives role mooring_reader its rights. May be run again, for example once the role exists.';

SELECT mooring.grant_reads();

-- Functions of the server, and of devices, are nobody else's.
REVOKE EXECUTE ON FUNCTION mooring.settle_latest(int8, int8, int4, int4, timestamptz[], int8[], float8[], text[], timestamptz),
    mooring.recover_latest(int4), mooring.grant_read(text), mooring.grant_reads() FROM PUBLIC;
