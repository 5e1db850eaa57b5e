-- What the servers of this lobby know each other by: one row.
create table muster_rdv_lobby (
    only_row boolean primary key default true check (only_row),
    secret   bytea   not null check (length(secret) = 32)
);

-- At which server the clients with a token wait. Unlogged: a claim lives for
-- seconds, a lost one is made again, and a commit need not wait for the disk.
create unlogged table muster_rdv_claim (
    token   bytea       primary key, -- SHA-256 of it
    url     text        not null,    -- where the server takes clients from others
    point   bigint      not null,    -- names the server while it runs
    id      bigint      not null,
    after   bigint      not null,    -- the dead claim that this one was to replace
    expires timestamptz not null     -- by the clock of the database
);

create index muster_rdv_claim_expires on muster_rdv_claim (expires);
