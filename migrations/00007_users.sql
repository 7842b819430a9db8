-- People and programs that use the HTTP API and the console.

-- +goose Up
CREATE TABLE mooring.users (
    id         int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 128),
    role       text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mooring.users IS 'Who may use the HTTP API: viewers look, operators command and change devices, admins also change users.';

-- Tokens of the API, sessions of browsers, and links that log in once. Only the
-- sha-256 of each is kept.
CREATE TABLE mooring.user_credentials (
    hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    user_id    int4 NOT NULL REFERENCES mooring.users (id) ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('token', 'session', 'link')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX user_credentials_user ON mooring.user_credentials (user_id);
COMMENT ON TABLE mooring.user_credentials IS 'What proves who a user is. A link is good once and becomes a session.';

-- +goose Down
DROP TABLE mooring.user_credentials, mooring.users;
