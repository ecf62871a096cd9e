-- EXTEND: what APPEND does, where all is as the owner believes: nearly every token. It looks at no clock, renews no
-- lease and tells of no stop; where something else is the case it writes nothing, and APPEND, given the same, says what.
-- For several messages at once, each of them for itself: to begin a script costs as much as half of what it does for one.
-- KEYS for each message: meta, stream
-- ARGV for each message: token, which only the owner's record holds; seq of the last entry; epoch; count; payloads
-- Reply for each message {ok} | {unsure}
local call, replies, at = redis.call, {}, 1
for k = 1, #KEYS, 2 do
  local M, S, last, ep, n = KEYS[k], KEYS[k + 1], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local v = call('HMGET', M, 'tok', 'seq')
  local ok = v[1] == ARGV[at] and v[2] == last
  for i = 1, ok and n or 0 do
    ok = ok and call('XADD', S, 'NOMKSTREAM', ep .. '-' .. last + i, 'd', ARGV[at + 3 + i])
  end
  if ok then
    call('HSET', M, 'seq', last + n)
    -- a batch as in the prelude's `publish`
    local first = at + 4
    call('PUBLISH', S, ep .. '-' .. last .. ' ' .. ep .. '-' .. last + 1 .. '\n' .. table.concat(ARGV, '\n', first, first + n - 1))
  end
  replies[#replies + 1] = ok and 'ok' or 'unsure'
  at = at + 4 + n
end
return replies
