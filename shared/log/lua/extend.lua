-- EXTEND: what APPEND does, where all is as the owner believes: nearly every token. It looks at no clock, renews no
-- lease and tells of no stop; where something else is the case it writes nothing, and APPEND, given the same, says what.
-- For several messages at once, each of them for itself: to begin a script costs as much as half of what it does for one.
-- KEYS for each message: meta, stream
-- ARGV for each message: token, which only the owner's record holds; seq of the last entry; epoch; count; payloads,
--   one at least
-- Reply for each message {ok} | {unsure}
-- A number is made into a string once only: that costs as much as a small command, and most have one payload.
local call, format, replies, at = redis.call, string.format, {}, 1
for k = 1, #KEYS, 2 do
  local M, S, last, ep, n = KEYS[k], KEYS[k + 1], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local v = call('HMGET', M, 'tok', 'seq')
  local ok = v[1] == ARGV[at] and v[2] == last
  local first, seq
  for i = 1, ok and n or 0 do
    seq = format('%d', last + i)
    first = first or seq
    ok = ok and call('XADD', S, 'NOMKSTREAM', ep .. '-' .. seq, 'd', ARGV[at + 3 + i])
  end
  if ok then
    call('HSET', M, 'seq', seq)
    -- a batch as in the prelude's `publish`
    local said = n == 1 and ARGV[at + 4] or table.concat(ARGV, '\n', at + 4, at + 3 + n)
    call('PUBLISH', S, ep .. '-' .. last .. ' ' .. ep .. '-' .. first .. '\n' .. said)
  end
  replies[#replies + 1] = ok and 'ok' or 'unsure'
  at = at + 4 + n
end
return replies
