-- Presence: sessions of a device that never overlap, and news of them.
-- docs/decisions/056 says why it is kept in this way.

-- +goose Up
ALTER TABLE mooring.sessions ADD COLUMN replaced_at timestamptz;
COMMENT ON COLUMN mooring.sessions.replaced_at IS 'when the device''s next session began; NULL: it is the newest. This one has ended by then, whatever its server has heard';

-- The times of one session are in order, and it has ended when the next one
-- began. The server that holds the connection has the last word on the rest.
-- +goose StatementBegin
CREATE FUNCTION mooring.session_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.disconnected_at IS NULL THEN
        -- Its server has not heard of the next one, or not of this one's end.
        IF TG_OP = 'UPDATE' AND OLD.disconnected_at IS NOT NULL THEN
            NEW.disconnected_at := OLD.disconnected_at;
            NEW.close_code := OLD.close_code;
            NEW.reason := OLD.reason;
        ELSE
            NEW.disconnected_at := NEW.replaced_at;
            NEW.close_code := 4101;
            NEW.reason := 'a newer connection of this device took over';
        END IF;
        NEW.incomplete := true; -- until its server writes the last counts
    END IF;
    NEW.disconnected_at := greatest(NEW.connected_at, least(NEW.disconnected_at, NEW.replaced_at));
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER session_in_order BEFORE INSERT OR UPDATE ON mooring.sessions
    FOR EACH ROW WHEN (NEW.replaced_at IS NOT NULL OR NEW.disconnected_at < NEW.connected_at)
    EXECUTE FUNCTION mooring.session_in_order();

-- What is there already, by the same rules. A session begins when the ones
-- before have begun.
UPDATE mooring.sessions s SET connected_at = o.began, replaced_at = o.next
FROM (
    SELECT id, connected_at, began, lead(began) OVER (PARTITION BY device_id ORDER BY id) AS next
    FROM (SELECT id, device_id, connected_at, max(connected_at) OVER (PARTITION BY device_id ORDER BY id) AS began FROM mooring.sessions) x
) o
WHERE s.id = o.id AND (o.next IS NOT NULL OR o.began <> o.connected_at OR s.disconnected_at < s.connected_at);

ALTER TABLE mooring.sessions ADD CONSTRAINT sessions_in_order
    CHECK (connected_at <= disconnected_at AND disconnected_at <= replaced_at AND (replaced_at IS NULL OR disconnected_at IS NOT NULL));

-- News of presence are the numbers of the devices that it may have changed of.
-- +goose StatementBegin
CREATE FUNCTION mooring.sessions_opened() RETURNS trigger LANGUAGE plpgsql
-- Plans are kept while the table grows: they must not be those of a small one.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    at timestamptz;
    link record;
BEGIN
    -- One after the other, also on several servers; each statement below sees
    -- what was committed by the time it begins.
    PERFORM FROM mooring.devices d WHERE d.id IN (SELECT device_id FROM opened) ORDER BY d.id FOR NO KEY UPDATE;
    -- The neighbours in number: the session before, and, where a server drew its
    -- numbers earlier than another one and comes later, those behind. In the
    -- order in which servers write the ends of sessions.
    PERFORM FROM (
        SELECT n.id FROM (SELECT device_id, min(id) AS first FROM opened GROUP BY device_id) o
         CROSS JOIN LATERAL (
               (SELECT x.id FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id < o.first ORDER BY x.id DESC LIMIT 1)
               UNION ALL
               (SELECT x.id FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id > o.first)) n
         ORDER BY n.id) n
     CROSS JOIN LATERAL (SELECT FROM mooring.sessions s WHERE s.id = n.id FOR NO KEY UPDATE) locked;
    -- Servers' clocks differ. What counts is that no session begins before the
    -- one before has begun, and ended if it has, nor in the future.
    at := clock_timestamp();
    FOR link IN
        SELECT * FROM (
            SELECT c.*, lead(c.began) OVER (PARTITION BY c.device_id ORDER BY c.id) AS next
              FROM (
                SELECT s.id, s.device_id, s.connected_at, s.replaced_at,
                       greatest(max(CASE WHEN s.id < o.first THEN s.connected_at ELSE least(s.connected_at, at) END) OVER up_to,
                                max(least(s.disconnected_at, at)) FILTER (WHERE s.disconnected_at IS NOT NULL) OVER before) AS began
                  FROM (SELECT device_id, min(id) AS first FROM opened GROUP BY device_id) o
                 CROSS JOIN LATERAL (
                       (SELECT x.* FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id < o.first ORDER BY x.id DESC LIMIT 1)
                       UNION ALL
                       (SELECT x.* FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id >= o.first)) s
                WINDOW up_to AS (PARTITION BY s.device_id ORDER BY s.id),
                       before AS (PARTITION BY s.device_id ORDER BY s.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) c) l
         WHERE l.began <> l.connected_at OR l.next IS DISTINCT FROM l.replaced_at
    LOOP
        UPDATE mooring.sessions s SET connected_at = link.began, replaced_at = link.next WHERE s.id = link.id;
    END LOOP;
    PERFORM pg_notify('mooring_presence', string_agg(device_id::text, ','))
       FROM (SELECT device_id, row_number() OVER () / 500 AS portion FROM (SELECT DISTINCT device_id FROM opened) devices) numbered
      GROUP BY portion;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.session_turned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mooring_presence', NEW.device_id::text);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.device_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mooring_presence', OLD.id::text);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER sessions_opened AFTER INSERT ON mooring.sessions REFERENCING NEW TABLE AS opened
    FOR EACH STATEMENT EXECUTE FUNCTION mooring.sessions_opened();
-- Not for what sessions_opened does to the session before: it tells of that.
CREATE TRIGGER session_turned AFTER UPDATE ON mooring.sessions
    FOR EACH ROW WHEN ((OLD.disconnected_at IS NULL) <> (NEW.disconnected_at IS NULL) AND NEW.replaced_at IS NULL)
    EXECUTE FUNCTION mooring.session_turned();
CREATE TRIGGER device_gone AFTER DELETE ON mooring.devices
    FOR EACH ROW EXECUTE FUNCTION mooring.device_gone();

-- +goose StatementBegin
CREATE FUNCTION mooring.end_in_words(close_code int4, reason text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(reason, ''), 'closed with code ' || close_code, 'it ended without anybody seeing it');
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.end_in_words(int4, text) IS 'Why a session ended, of sessions.close_code and sessions.reason.';

CREATE OR REPLACE VIEW mooring.device_status AS
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
    s.connected_at, s.remote, s.gateway, s.firmware, d.model, d.disabled, d.labels,
    CASE
        WHEN s.id IS NULL THEN 'it never connected'
        WHEN s.disconnected_at IS NOT NULL THEN mooring.end_in_words(s.close_code, s.reason)
        WHEN g.lease_until > now() THEN 'connected to ' || s.gateway || coalesce(' from ' || nullif(s.remote, ''), '')
        ELSE 'its server ' || s.gateway || ' is gone'
    END AS reason,
    s.id AS session,
    d.id AS device_id
FROM mooring.devices d
LEFT JOIN LATERAL (
    SELECT * FROM mooring.sessions x WHERE x.device_id = d.id ORDER BY x.id DESC LIMIT 1
) s ON true
LEFT JOIN mooring.gateways g ON g.incarnation = s.incarnation
LEFT JOIN LATERAL (
    SELECT x.close_code, x.reason FROM mooring.sessions x
    WHERE x.device_id = d.id AND x.disconnected_at IS NOT NULL ORDER BY x.id DESC LIMIT 1
) e ON true;
COMMENT ON COLUMN mooring.device_status.reason IS 'why online is what it is, in words';
COMMENT ON COLUMN mooring.device_status.session IS 'number of the newest session; it rises with every one';
COMMENT ON COLUMN mooring.device_status.device_id IS 'number of the device, as in sessions and samples';

-- Times without a link, one row each.
CREATE VIEW mooring.link_gaps AS
SELECT d.name AS device, e.began, s.replaced_at AS ended, coalesce(s.replaced_at, now()) - e.began AS lasted,
    s.last_seen_at AS last_heard, s.close_code,
    CASE WHEN s.disconnected_at IS NULL THEN 'its server ' || s.gateway || ' is gone' ELSE mooring.end_in_words(s.close_code, s.reason) END AS reason,
    s.id AS session
FROM mooring.devices d
JOIN mooring.sessions s ON s.device_id = d.id
LEFT JOIN mooring.gateways g ON g.incarnation = s.incarnation
CROSS JOIN LATERAL (
    SELECT CASE WHEN s.disconnected_at IS NOT NULL THEN s.disconnected_at
                WHEN g.lease_until > now() THEN NULL
                ELSE coalesce(g.lease_until, s.last_seen_at) END AS began
) e
WHERE e.began IS NOT NULL AND (s.replaced_at IS NULL OR s.replaced_at > e.began);
COMMENT ON VIEW mooring.link_gaps IS 'When a device that had been connected was not. Filter by device. Times before its first session, or before the oldest on record, are not here.';
COMMENT ON COLUMN mooring.link_gaps.ended IS 'when it connected again; NULL: it is still away';
COMMENT ON COLUMN mooring.link_gaps.last_heard IS 'when the server last heard of it: a broken link is noticed later than it breaks';
COMMENT ON COLUMN mooring.link_gaps.reason IS 'why the connection before the gap ended';
COMMENT ON COLUMN mooring.link_gaps.session IS 'number of the session before the gap';

-- Days are those of the session's time zone, and may have 23 or 25 hours.
-- +goose StatementBegin
CREATE FUNCTION mooring.uptime_of(of_device text, since date DEFAULT NULL, until date DEFAULT NULL)
RETURNS TABLE (device text, day date, online interval, known interval, percent numeric, sessions int8, losses int8)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 90 SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    of_id int4 := (SELECT d.id FROM mooring.devices d WHERE d.name = of_device);
    first timestamptz := (SELECT s.connected_at FROM mooring.sessions s WHERE s.device_id = of_id ORDER BY s.id LIMIT 1);
    from_day date := greatest(since, first::date);
    to_day date := least(until, now()::date);
BEGIN
    IF first IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT of_device, k.day, coalesce(p.online, interval '0'), k.known,
        round((100 * extract(epoch FROM coalesce(p.online, interval '0')) / nullif(extract(epoch FROM k.known), 0))::numeric, 3),
        coalesce(p.sessions, 0), coalesce(p.losses, 0)
    FROM (
        SELECT g.at::date AS day, greatest(least((g.at::date + 1)::timestamptz, now()) - greatest(g.at::date::timestamptz, first), interval '0') AS known
        FROM generate_series(from_day::timestamp, to_day::timestamp, interval '1 day') AS g (at)
    ) k
    LEFT JOIN (
        SELECT g.at::date AS day,
            sum(least(s.ended, (g.at::date + 1)::timestamptz) - greatest(s.connected_at, g.at::date::timestamptz)) AS online,
            count(*) AS sessions, count(*) FILTER (WHERE s.lost AND s.ended::date = g.at::date) AS losses
        FROM (
            SELECT x.connected_at, greatest(x.connected_at, e.ended) AS ended,
                x.replaced_at IS NULL AND e.ended < now() OR x.replaced_at > e.ended AS lost
            FROM mooring.sessions x LEFT JOIN mooring.gateways w ON w.incarnation = x.incarnation
            CROSS JOIN LATERAL (
                SELECT CASE WHEN x.disconnected_at IS NOT NULL THEN x.disconnected_at
                            WHEN w.lease_until > now() THEN now()
                            ELSE coalesce(w.lease_until, x.last_seen_at) END AS ended
            ) e
            WHERE x.device_id = of_id AND x.connected_at < (to_day + 1)::timestamptz AND e.ended >= from_day::timestamptz
        ) s
        CROSS JOIN LATERAL generate_series(greatest(s.connected_at::date, from_day)::timestamp,
            least(s.ended::date, to_day)::timestamp, interval '1 day') AS g (at)
        GROUP BY g.at::date
    ) p ON p.day = k.day
    ORDER BY k.day;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.uptime_of(text, date, date) IS
'How long a device was connected, by day, from since until (both included); without them from its first session on record until today.';

CREATE VIEW mooring.uptime AS
SELECT d.name AS device, u.day, u.online, u.known, u.percent, u.sessions, u.losses
FROM mooring.devices d CROSS JOIN LATERAL mooring.uptime_of(d.name) u;
COMMENT ON VIEW mooring.uptime IS 'How long each device was connected, by day of the session''s time zone. Filter by device; mooring.uptime_of takes days.';
COMMENT ON COLUMN mooring.uptime.online IS 'how long it was connected on that day';
COMMENT ON COLUMN mooring.uptime.known IS 'the part of the day that counts: after its first session on record, and before now';
COMMENT ON COLUMN mooring.uptime.percent IS 'online of known';
COMMENT ON COLUMN mooring.uptime.sessions IS 'sessions that were open at some time of that day';
COMMENT ON COLUMN mooring.uptime.losses IS 'how often it went offline on that day; a connection that the next one took over from is no loss';

-- Why there is nothing in a stretch of time: the device was away, or it was
-- there and sent nothing, or it gave rows up, or they were refused.
-- +goose StatementBegin
CREATE FUNCTION mooring.interruptions_of(of_device text, since timestamptz, until timestamptz DEFAULT NULL, longer_than interval DEFAULT '5 minutes')
RETURNS TABLE (device text, kind text, began timestamptz, ended timestamptz, lasted interval, samples int8, missing int8, reason text)
LANGUAGE plpgsql STABLE ROWS 100 SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    of_id int4 := (SELECT d.id FROM mooring.devices d WHERE d.name = of_device);
    first timestamptz := (SELECT s.connected_at FROM mooring.sessions s WHERE s.device_id = of_id ORDER BY s.id LIMIT 1);
    from_at timestamptz := greatest(since, first);
    to_at timestamptz := least(until, now());
    away tstzmultirange;
BEGIN
    IF of_id IS NULL OR first IS NULL OR from_at >= to_at THEN
        RETURN;
    END IF;
    SELECT coalesce(range_agg(tstzrange(g.began, g.ended)), '{}') INTO away FROM mooring.link_gaps g
    WHERE g.device = of_device AND g.began < to_at AND (g.ended IS NULL OR g.ended > from_at);

    RETURN QUERY
    WITH steps AS (
        SELECT lag(s.ts, 1, from_at) OVER w AS before_ts, s.ts, lag(s.seq) OVER w AS before_seq, s.seq
        FROM mooring.samples s WHERE s.device_id = of_id AND s.ts >= from_at AND s.ts < to_at
        WINDOW w AS (ORDER BY s.ts, s.seq)
    ), empty AS (
        SELECT tstzrange(x.before_ts, x.ts) AS stretch FROM steps x
        WHERE x.ts - x.before_ts > longer_than AND NOT coalesce(x.seq > x.before_seq + 1, false)
        UNION ALL
        SELECT tstzrange(coalesce(max(x.ts), from_at), to_at) FROM steps x
    ), found AS (
        SELECT 'link' AS kind, g.began, g.ended, g.lasted,
            (SELECT count(*) FROM mooring.samples s WHERE s.device_id = of_id AND s.ts > g.began AND s.ts < coalesce(g.ended, to_at)) AS samples,
            NULL::int8 AS missing, g.reason
        FROM mooring.link_gaps g
        WHERE g.device = of_device AND g.began < to_at AND (g.ended IS NULL OR g.ended > from_at) AND g.lasted > longer_than
        UNION ALL
        SELECT 'silent', lower(r), CASE WHEN upper(r) < now() THEN upper(r) END, upper(r) - lower(r), 0, NULL, 'connected, but it sent nothing'
        FROM empty e CROSS JOIN LATERAL unnest(tstzmultirange(e.stretch) - away) AS r
        WHERE upper(r) - lower(r) > longer_than
        UNION ALL
        SELECT CASE WHEN g.refused >= g.missing THEN 'refused' ELSE 'lost' END, g.after_ts, g.before_ts, g.before_ts - g.after_ts, 0, g.missing,
            CASE WHEN g.refused >= g.missing THEN 'rows were refused: the view refusals says why'
                 WHEN g.refused > 0 THEN 'the device gave up ' || g.missing - g.refused || ' rows; the others were refused'
                 ELSE 'the device gave the rows up before it could send them' END
            || CASE WHEN away && tstzmultirange(tstzrange(g.after_ts, g.before_ts)) THEN '; it was away in that time' ELSE '' END
        FROM mooring.gaps_of(of_device, from_at, to_at) g
    )
    SELECT of_device, f.kind, f.began, f.ended, f.lasted, f.samples, f.missing, f.reason FROM found f ORDER BY f.began, f.kind;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mooring.interruptions_of(text, timestamptz, timestamptz, interval) IS
'What is missing of a device from since until (excluded; NULL: now), and whether for want of a link or of data. kind: link, the device was not connected (samples: how many it sent later, so that nothing is missing); silent, it was connected and sent nothing; lost, sequence numbers are missing, rows that it gave up; refused, rows that were refused. link and silent only if longer than longer_than.';

CREATE VIEW mooring.interruptions AS
SELECT d.name AS device, i.kind, i.began, i.ended, i.lasted, i.samples, i.missing, i.reason
FROM mooring.devices d CROSS JOIN LATERAL mooring.interruptions_of(d.name, now() - interval '1 day') i;
COMMENT ON VIEW mooring.interruptions IS 'What is missing of each device in the last 24 hours, and whether for want of a link or of data. Reads the samples of a day; filter by device. mooring.interruptions_of takes a time.';
COMMENT ON COLUMN mooring.interruptions.kind IS 'link: it was not connected; silent: connected, and nothing came for more than 5 minutes; lost: rows that it gave up; refused: rows that were refused';
COMMENT ON COLUMN mooring.interruptions.ended IS 'NULL: it is still so';
COMMENT ON COLUMN mooring.interruptions.samples IS 'of link: samples of that time that it sent later';
COMMENT ON COLUMN mooring.interruptions.missing IS 'of lost and refused: sequence numbers that are missing';

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
        'books', 'books_in_all', 'batches', 'device_counts', 'refused_handshakes', 'command_steps', 'link_gaps', 'uptime', 'interruptions']
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
