-- META: the record and the server's clock, read at one instant.
-- ARGV field names
-- Reply {now ms, value...}
return {text(now()), unpack(redis.call('HMGET', M, unpack(ARGV)))}
