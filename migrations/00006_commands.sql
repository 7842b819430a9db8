-- Commands with their whole history, and news of them.

-- +goose Up
ALTER TABLE mooring.commands DROP CONSTRAINT commands_state_check;
UPDATE mooring.commands SET state = 'done' WHERE state = 'finished';
ALTER TABLE mooring.commands
    ADD CONSTRAINT commands_state_check
        CHECK (state IN ('queued', 'sent', 'accepted', 'done', 'failed', 'refused', 'expired')),
    ADD CONSTRAINT commands_name_check CHECK (octet_length(name) BETWEEN 1 AND 64),
    ADD COLUMN asked_by    text NOT NULL DEFAULT current_user,
    ADD COLUMN gateway     text,
    ADD COLUMN session_id  int8,
    ADD COLUMN accepted_at timestamptz,
    ADD COLUMN note        text;
COMMENT ON TABLE mooring.commands IS 'What devices are asked to do, and what became of it. Inserting a row is enough to send one.';
COMMENT ON COLUMN mooring.commands.ttl IS 'from created_at on; a command that was not delivered by then is expired';
COMMENT ON COLUMN mooring.commands.idempotent IS 'may be delivered again when the answer stays out; others are delivered at most once';
COMMENT ON COLUMN mooring.commands.state IS 'queued, sent, accepted (more follows), done, failed, refused, expired';
COMMENT ON COLUMN mooring.commands.asked_by IS 'who asked for it';
COMMENT ON COLUMN mooring.commands.gateway IS 'the server that sent it last';
COMMENT ON COLUMN mooring.commands.session_id IS 'the connection it was sent on last';
COMMENT ON COLUMN mooring.commands.status IS 'the device''s answer, see PROTOCOL.md, RESULT; NULL: none';
COMMENT ON COLUMN mooring.commands.detail IS 'what the device said with its answer';
COMMENT ON COLUMN mooring.commands.note IS 'what the server has to say of it, in words';

-- Few rows: those whose end is still to come.
CREATE INDEX commands_open ON mooring.commands (device_id, id) WHERE state IN ('queued', 'sent', 'accepted');
CREATE INDEX commands_created ON mooring.commands (created_at);

CREATE TABLE mooring.command_steps (
    command_id int8 NOT NULL REFERENCES mooring.commands (id) ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    state      text NOT NULL,
    gateway    text,
    session_id int8,
    status     int2,
    detail     jsonb,
    note       text
);
CREATE INDEX command_steps_command ON mooring.command_steps (command_id, at);
COMMENT ON TABLE mooring.command_steps IS 'Every step of every command, kept by a trigger.';

-- +goose StatementBegin
CREATE FUNCTION mooring.command_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mooring.command_steps (command_id, state, gateway, session_id, status, detail, note)
    VALUES (NEW.id, NEW.state, NEW.gateway, NEW.session_id, NEW.status, NEW.detail, NEW.note);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- News for the gateways ("queued device,device,…") and for those who watch
-- ("changed command,command,…"), in portions that fit a notification.
-- +goose StatementBegin
CREATE FUNCTION mooring.commands_queued() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mooring_commands', 'queued ' || string_agg(device_id::text, ','))
       FROM (SELECT device_id, row_number() OVER () / 500 AS portion
               FROM (SELECT DISTINCT device_id FROM changed WHERE state = 'queued') devices) numbered
      GROUP BY portion;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.commands_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mooring_command_news', string_agg(id::text, ','))
       FROM (SELECT id, row_number() OVER () / 300 AS portion FROM changed) numbered
      GROUP BY portion;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER commands_step AFTER INSERT ON mooring.commands
    FOR EACH ROW EXECUTE FUNCTION mooring.command_step();
CREATE TRIGGER commands_next_step AFTER UPDATE ON mooring.commands
    FOR EACH ROW WHEN ((OLD.state, OLD.status, OLD.detail, OLD.note, OLD.session_id)
        IS DISTINCT FROM (NEW.state, NEW.status, NEW.detail, NEW.note, NEW.session_id))
    EXECUTE FUNCTION mooring.command_step();
CREATE TRIGGER commands_queued AFTER INSERT ON mooring.commands REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION mooring.commands_queued();
CREATE TRIGGER commands_changed AFTER UPDATE ON mooring.commands REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION mooring.commands_changed();

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
        'books', 'books_in_all', 'batches', 'device_counts', 'refused_handshakes', 'command_steps']
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

-- +goose Down
DROP TRIGGER commands_changed ON mooring.commands;
DROP TRIGGER commands_queued ON mooring.commands;
DROP TRIGGER commands_next_step ON mooring.commands;
DROP TRIGGER commands_step ON mooring.commands;
DROP FUNCTION mooring.commands_changed(), mooring.commands_queued(), mooring.command_step();
DROP TABLE mooring.command_steps;
DROP INDEX mooring.commands_open, mooring.commands_created;
DELETE FROM mooring.commands WHERE state NOT IN ('queued', 'sent', 'accepted', 'expired', 'done');
ALTER TABLE mooring.commands
    DROP CONSTRAINT commands_state_check, DROP CONSTRAINT commands_name_check,
    DROP COLUMN asked_by, DROP COLUMN gateway, DROP COLUMN session_id, DROP COLUMN accepted_at, DROP COLUMN note;
UPDATE mooring.commands SET state = 'finished' WHERE state = 'done';
ALTER TABLE mooring.commands ADD CONSTRAINT commands_state_check
    CHECK (state IN ('queued', 'sent', 'accepted', 'finished', 'expired'));
