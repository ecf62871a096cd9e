-- META: the record and the server's clock, read at one instant; `seq` is that of the log's last entry.
-- KEYS 1 meta  2 stream   ARGV field names
-- Reply {now ms, value...}
local values = redis.call('HMGET', M, unpack(ARGV))
for i, name in ipairs(ARGV) do
  if name == 'seq' and values[i] then values[i] = text(last_seq(values[i])) end
end
return {text(now()), unpack(values)}
