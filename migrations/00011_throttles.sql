-- Devices that were told to slow down.

-- +goose Up
-- On the session, and not a row for each notice: a device that is told again and
-- again takes no more room. NULL takes none.
ALTER TABLE mooring.sessions
    ADD COLUMN throttles int8,
    ADD COLUMN throttled_at timestamptz,
    ADD COLUMN throttle_gap_ms int4,
    ADD COLUMN throttle_for_s int4;
COMMENT ON COLUMN mooring.sessions.throttles IS 'how often the device was told to slow down (NOTICE THROTTLE); NULL: never';
COMMENT ON COLUMN mooring.sessions.throttled_at IS 'when it was told last';
COMMENT ON COLUMN mooring.sessions.throttle_gap_ms IS 'the gap between frames that it was asked for then, in milliseconds';
COMMENT ON COLUMN mooring.sessions.throttle_for_s IS 'for so many seconds';

-- +goose Down
ALTER TABLE mooring.sessions DROP COLUMN throttles, DROP COLUMN throttled_at, DROP COLUMN throttle_gap_ms, DROP COLUMN throttle_for_s;
