-- Counts the changes of the tokens: one row, which a change locks.
create table muster_access (
    only_row boolean primary key default true check (only_row),
    version  bigint  not null default 0
);

insert into muster_access default values;

-- The issued tokens, as hashes. What is revoked stays, without its text.
create table muster_access_token (
    id      text        primary key,
    token   text        not null, -- JSON
    revoked boolean     not null default false,
    changed timestamptz not null default statement_timestamp()
);

-- What was relayed for each, by all points.
create table muster_access_usage (
    id      text        primary key,
    bytes   bigint      not null,
    changed timestamptz not null default statement_timestamp()
);

create index muster_access_usage_changed on muster_access_usage (changed);

-- Which of its batches each running point has added. A point whose connection
-- broke sends the batch again, and it is added once.
create table muster_access_point (
    id      bigint      primary key,
    batch   bigint      not null,
    changed timestamptz not null default statement_timestamp()
);
