-- Openings in one statement where nothing is odd: docs/decisions/153.

-- +goose Up
-- As in 00008, but for what is nearly always so: each device has one session among
-- the opened ones, it is the newest, and it does not begin in the future of this
-- clock. Only a function is replaced, for servers of either version; nothing is
-- rewritten, and nobody waits longer than a catalogue's row takes.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION mooring.sessions_opened() RETURNS trigger LANGUAGE plpgsql
-- Plans must not be those of a small table, while it grows. Planning takes some
-- 0.1 ms; what could only be planned in one way took more, row by row.
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    at timestamptz;
    link record;
BEGIN
    -- One after the other, also on several servers; each statement below sees
    -- what was committed by the time it begins.
    PERFORM FROM mooring.devices d WHERE d.id IN (SELECT device_id FROM opened) ORDER BY d.id FOR NO KEY UPDATE;
    -- Servers' clocks differ. What counts is that no session begins before the
    -- one before has begun, and ended if it has, nor in the future.
    at := clock_timestamp();
    IF NOT EXISTS (
        SELECT FROM opened o
         WHERE o.connected_at > at OR EXISTS (SELECT FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id > o.id))
    THEN
        -- The sessions before, in the order in which servers write the ends of
        -- sessions. What is computed of such a row is computed once it is locked:
        -- its end may be on its way. Nobody else sees the opened ones yet.
        WITH before AS (
            UPDATE mooring.sessions s
               SET replaced_at = greatest(n.connected_at, s.connected_at, CASE WHEN s.disconnected_at IS NOT NULL THEN least(s.disconnected_at, at) END)
              FROM (SELECT p.id, o.id AS opened, o.connected_at
                      FROM opened o
                     CROSS JOIN LATERAL (SELECT x.id FROM mooring.sessions x
                                          WHERE x.device_id = o.device_id AND x.id < o.id ORDER BY x.id DESC LIMIT 1) p
                     ORDER BY p.id) n
             WHERE s.id = n.id
            RETURNING n.opened, n.connected_at, s.replaced_at
        )
        UPDATE mooring.sessions s SET connected_at = b.replaced_at
          FROM before b WHERE b.replaced_at <> b.connected_at AND s.id = b.opened;
    ELSE
        -- The neighbours in number: the session before, and, where a server drew its
        -- numbers earlier than another one and comes later, those behind.
        PERFORM FROM (
            SELECT n.id FROM (SELECT device_id, min(id) AS first FROM opened GROUP BY device_id) o
             CROSS JOIN LATERAL (
                   (SELECT x.id FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id < o.first ORDER BY x.id DESC LIMIT 1)
                   UNION ALL
                   (SELECT x.id FROM mooring.sessions x WHERE x.device_id = o.device_id AND x.id > o.first)) n
             ORDER BY n.id) n
         CROSS JOIN LATERAL (SELECT FROM mooring.sessions s WHERE s.id = n.id FOR NO KEY UPDATE) locked;
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
    END IF;
    PERFORM pg_notify('mooring_presence', string_agg(device_id::text, ','))
       FROM (SELECT device_id, row_number() OVER () / 500 AS portion FROM (SELECT DISTINCT device_id FROM opened) devices) numbered
      GROUP BY portion;
    RETURN NULL;
END $$;
-- +goose StatementEnd
