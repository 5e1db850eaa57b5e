-- The store's identity, and the position of the last change: one row. A
-- transaction that adds changes first takes the lock of this row, and keeps it
-- until it is committed; so positions are given out in the order of commits.
create table muster_rendezvous (
    only_row boolean primary key default true check (only_row),
    epoch    bigint  not null,
    secret   bytea   not null check (length(secret) = 32),
    pos      bigint  not null default 0
);

-- The newest change of each registration. A removal stays, without its record,
-- until nobody can hold what it removed: keep is the latest time at which any
-- state of this key that was ever visible expires.
create table muster_registration (
    realm   smallint    not null,
    ns      bytea       not null, -- names may hold NUL, and have no collation
    peer    bytea       not null,
    pos     bigint      not null,
    removed boolean     not null,
    form    smallint    not null,
    seq     bigint      not null, -- the 64 bits of an unsigned number
    ttl_ms  bigint      not null,
    expires timestamptz not null, -- by the clock of the database
    keep    timestamptz not null,
    source  bytea,
    record  bytea       not null,
    primary key (realm, ns, peer)
);

create unique index muster_registration_pos on muster_registration (pos);
create index muster_registration_keep on muster_registration (keep);

-- How far each running point has come. A point whose connection broke within a
-- COMMIT finds here whether it was done.
create table muster_writer (
    id  bigint      primary key,
    pos bigint      not null,
    at  timestamptz not null default now()
);
