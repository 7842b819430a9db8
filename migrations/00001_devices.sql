-- +goose Up
-- A device may connect. Its name is unique and is what SQL users see.
CREATE TABLE mooring.devices (
    id         int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 128),
    model      text,
    labels     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    disabled   bool NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A credential of a device: only the sha-256 of the token's text is kept. A
-- token is live while it is neither revoked nor expired; a device has two live
-- ones at most, so that it can be given a new one without a gap.
CREATE TABLE mooring.tokens (
    id         int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  int4 NOT NULL REFERENCES mooring.devices (id) ON DELETE CASCADE,
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    label      text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX tokens_device ON mooring.tokens (device_id);

-- One row per start of a server. While the server lives it moves lease_until
-- ahead; when that time has passed, its sessions are over, whatever their rows
-- say: a session is open if disconnected_at IS NULL and, for readers who want
-- to see a killed server at once, its incarnation's lease_until > now().
CREATE TABLE mooring.gateways (
    incarnation int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    ended_at    timestamptz, -- stopped, or declared dead
    end_reason  text
);
CREATE INDEX gateways_name ON mooring.gateways (name, incarnation);

-- Session numbers come from one sequence for all gateways: of two sessions of a
-- device the one with the higher number is the newer one, in whatever order
-- their ends are recorded.
CREATE SEQUENCE mooring.session_number AS int8;

-- One row per connection of a device. Only the gateway that holds the
-- connection writes to it, save for closing what a dead gateway left open.
CREATE TABLE mooring.sessions (
    id                  int8 PRIMARY KEY,
    device_id           int4 NOT NULL REFERENCES mooring.devices (id) ON DELETE CASCADE,
    token_id            int8,          -- NULL: a certificate
    gateway             text NOT NULL, -- name of the gateway
    incarnation         int4 NOT NULL, -- which start of it: mooring.gateways
    remote              text,
    boot_id             int8,          -- NULL: the device did not say
    model               text,
    firmware            text,
    connected_at        timestamptz NOT NULL,
    last_seen_at        timestamptz NOT NULL,
    disconnected_at     timestamptz,   -- NULL: open
    close_code          int4,          -- NULL: open, or ended without anybody seeing it
    reason              text,
    next_seq            int8,          -- first sequence number of this boot not yet settled
    rows_in             int8 NOT NULL DEFAULT 0,
    rows_committed      int8 NOT NULL DEFAULT 0,
    rows_duplicate      int8 NOT NULL DEFAULT 0,
    rows_rejected       int8 NOT NULL DEFAULT 0,
    rows_lost_by_device int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 70); -- room for progress to be updated in place
CREATE INDEX sessions_device ON mooring.sessions (device_id, id DESC);
CREATE INDEX sessions_open ON mooring.sessions (incarnation) WHERE disconnected_at IS NULL;

-- What devices are asked to do.
CREATE TABLE mooring.commands (
    id          int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id   int4 NOT NULL REFERENCES mooring.devices (id) ON DELETE CASCADE,
    name        text NOT NULL,
    args        jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ttl         interval NOT NULL DEFAULT '1 minute',
    idempotent  bool NOT NULL DEFAULT false,
    state       text NOT NULL DEFAULT 'queued'
                CHECK (state IN ('queued', 'sent', 'accepted', 'finished', 'expired')),
    sent_at     timestamptz,
    finished_at timestamptz,
    status      int2,
    detail      jsonb
);
CREATE INDEX commands_device ON mooring.commands (device_id, id DESC);

-- Gateways keep credentials in memory and are told of every change, also of one
-- made by hand in SQL. The payload is "kind device token milliseconds": kinds
-- added, changed, revoked (of a token), enabled, disabled, renamed, removed (of
-- a device); the time is when the transaction started.

-- +goose StatementBegin
CREATE FUNCTION mooring.notify_credential(kind text, device int4, token int8) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_notify('mooring_devices', concat_ws(' ', kind, device, token,
        (extract(epoch FROM now()) * 1000)::int8));
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.credentials_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mooring.notify_credential('added', 0, 0);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.token_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM mooring.notify_credential('revoked', OLD.device_id, OLD.id);
    ELSIF NEW.revoked_at IS NOT NULL OR NEW.expires_at <= now() THEN
        PERFORM mooring.notify_credential('revoked', NEW.device_id, NEW.id);
    ELSE
        PERFORM mooring.notify_credential('changed', NEW.device_id, NEW.id);
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.device_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM mooring.notify_credential('removed', OLD.id, 0);
    ELSE
        IF NEW.name <> OLD.name THEN
            PERFORM mooring.notify_credential('renamed', NEW.id, 0);
        END IF;
        IF NEW.disabled AND NOT OLD.disabled THEN
            PERFORM mooring.notify_credential('disabled', NEW.id, 0);
        ELSIF OLD.disabled AND NOT NEW.disabled THEN
            PERFORM mooring.notify_credential('enabled', NEW.id, 0);
        END IF;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER devices_added AFTER INSERT ON mooring.devices
    FOR EACH STATEMENT EXECUTE FUNCTION mooring.credentials_added();
CREATE TRIGGER tokens_added AFTER INSERT ON mooring.tokens
    FOR EACH STATEMENT EXECUTE FUNCTION mooring.credentials_added();
CREATE TRIGGER tokens_changed AFTER UPDATE OR DELETE ON mooring.tokens
    FOR EACH ROW EXECUTE FUNCTION mooring.token_changed();
CREATE TRIGGER devices_changed AFTER UPDATE OF name, disabled OR DELETE ON mooring.devices
    FOR EACH ROW EXECUTE FUNCTION mooring.device_changed();

-- +goose Down
DROP TABLE mooring.commands, mooring.sessions, mooring.gateways, mooring.tokens, mooring.devices;
DROP SEQUENCE mooring.session_number;
DROP FUNCTION mooring.device_changed(), mooring.token_changed(), mooring.credentials_added(),
    mooring.notify_credential(text, int4, int8);
