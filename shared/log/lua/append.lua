-- APPEND: the owner adds entries; none at all is a heartbeat. Renews the lease either way. Idempotent by seq.
-- Run for every heartbeat and whatever is not EXTENDed, so it has no prelude: what it does not define, it does not pay for.
-- KEYS 1 meta  2 stream; where the keys' lives are renewed also 3 active  4 live
-- ARGV 1 token  2 epoch  3 seq of the first payload  4 lease ms  5 live ttl ms ('0': leave)  6.. payloads
-- Reply {ok, last seq, stop wish or ''} | {gap, last seq} | {fenced, state, epoch} | {final, state} | {lost} | {gone}
local M, S, call = KEYS[1], KEYS[2], redis.call
local ep, first, ttl = ARGV[2], tonumber(ARGV[3]), ARGV[5]
local v = call('HMGET', M, 'st', 'ep', 'seq', 'tok', 'stop')
local st = v[1]
if not st then return {'gone'} end
if st == 'done' or st == 'failed' or st == 'aborted' or st == 'deleted' then return {'final', st} end
if st ~= 'running' or v[4] ~= ARGV[1] or v[2] ~= ep then return {'fenced', st, v[2]} end
local top = call('XREVRANGE', S, '+', '-', 'COUNT', 1)[1]
if not top then return {'lost'} end
local known = string.match(top[1], '%d+$')
local seq = tonumber(known)
if first > seq + 1 then return {'gap', known} end
-- a full Redis refuses what needs memory, but only until a script's first write: a heartbeat must work then
if #ARGV < 6 then
  call('HDEL', M, '-')
end
local last, fresh = seq, {}
for i = 6, #ARGV do
  local q = first + i - 6
  if q > last then
    call('XADD', S, ep .. '-' .. q, 'd', ARGV[i])
    last = q
    fresh[#fresh + 1] = ARGV[i]
  end
end
local t = call('TIME')
call('HSET', M, 'seq', last, 'lu', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[4]))
if ttl ~= '0' then for i = 1, 4 do call('PEXPIRE', KEYS[i], ttl) end end
if last > seq then
  -- a batch as in the prelude's `publish`
  call('PUBLISH', S, ep .. '-' .. known .. ' ' .. ep .. '-' .. (seq + 1) .. '\n' .. table.concat(fresh, '\n'))
else
  call('PUBLISH', S, ep .. '-' .. last)
end
return {'ok', tostring(last), v[5] or ''}
