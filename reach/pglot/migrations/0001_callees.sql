-- The points that run. Unlogged, as what follows: it lives for seconds, and a
-- point that finds itself forgotten writes all of its own again.
create unlogged table muster_reach_point (
    id      bigint      primary key, -- names the point while it runs
    url     text        not null,    -- where the other points reach it
    expires timestamptz not null     -- by the clock of the database
);

-- Which callees wait at which point. They go with their point.
create unlogged table muster_reach_callee (
    peer  bytea       not null,
    point bigint      not null references muster_reach_point on delete cascade,
    since timestamptz not null default statement_timestamp(),
    primary key (peer, point)
);

create index muster_reach_callee_point on muster_reach_callee (point);
