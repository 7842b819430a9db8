-- Certificates that are no credentials any more, and how much a device may send.

-- +goose Up
-- A certificate is known by the device's name in it and its serial number, in
-- hexadecimal with small letters and without leading zeros. It stays revoked when
-- the device is removed: a device that gets the name again must not be let in
-- with it.
CREATE TABLE mooring.revoked_certificates (
    name       text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    serial     text NOT NULL CHECK (serial ~ '^(0|[1-9a-f][0-9a-f]{0,39})$'),
    revoked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, serial)
);
COMMENT ON TABLE mooring.revoked_certificates IS 'TLS client certificates that are credentials no longer';

ALTER TABLE mooring.sessions ADD COLUMN certificate text;
COMMENT ON COLUMN mooring.sessions.certificate IS 'serial number of the certificate that the device showed, hexadecimal; NULL: it brought a token';

ALTER TABLE mooring.devices
    ADD COLUMN rows_per_second int4 CHECK (rows_per_second >= 0),
    ADD COLUMN bytes_per_second int4 CHECK (bytes_per_second >= 0);
COMMENT ON COLUMN mooring.devices.rows_per_second IS 'rows that the device may send; NULL: as the server says for all; 0: no limit';
COMMENT ON COLUMN mooring.devices.bytes_per_second IS 'bytes of DATA frames that the device may send; NULL: as the server says for all; 0: no limit';

-- +goose StatementBegin
CREATE FUNCTION mooring.certificate_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM mooring.notify_credential('added', 0, 0);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM mooring.notify_credential('revoked', d.id, 0) FROM mooring.devices d WHERE d.name = NEW.name;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION mooring.quota_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mooring.notify_credential('changed', NEW.id, 0);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER certificates_changed AFTER INSERT OR UPDATE OR DELETE ON mooring.revoked_certificates
    FOR EACH ROW EXECUTE FUNCTION mooring.certificate_changed();
CREATE TRIGGER quotas_changed AFTER UPDATE OF rows_per_second, bytes_per_second ON mooring.devices
    FOR EACH ROW EXECUTE FUNCTION mooring.quota_changed();

-- +goose Down
DROP TRIGGER quotas_changed ON mooring.devices;
DROP TABLE mooring.revoked_certificates;
DROP FUNCTION mooring.quota_changed(), mooring.certificate_changed();
ALTER TABLE mooring.devices DROP COLUMN rows_per_second, DROP COLUMN bytes_per_second;
ALTER TABLE mooring.sessions DROP COLUMN certificate;
