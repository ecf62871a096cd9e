-- CREATE: make the message, its first entry and the chat's active pointer, all or nothing.
-- KEYS 1-6 as in the prelude; 7 O  meta of the message that the caller saw in A (M itself if none); last P  the
--   chat's latest message id, which outlives that message's end
-- ARGV 1 mid  2 body hash  3 mid seen in A  4 policy single|replace|parallel  5 live ttl ms  6 random 0..999
--      7 request  8 user  9 payload  10 deadline ms from now  11 most messages in flight (parallel)
--      12 how long the message can be read after its end, ms
-- Reply {created, epoch} | {exists, state, epoch, seq} | {conflict} | {retry, mid in A} | {busy, mid} | {full, n}
local O, P = KEYS[7], KEYS[#KEYS]
local mid, hash, seen, policy, ttl, rnd, req, user, payload, dl, most, keep = unpack(ARGV)
local m = load_meta()
if m.st then
  if m.st ~= 'deleted' and redis.call('HGET', M, 'hash') == hash then
    return {'exists', m.st, text(m.ep), text(m.seq)}
  end
  return {'conflict'}
end
if redis.call('EXISTS', G) == 1 then return {'conflict'} end
local gone
if policy == 'parallel' then
  local n = redis.call('ZCARD', L)
  if n >= tonumber(most) then return {'full', text(n)} end
else
  local cur = redis.call('GET', A) or ''
  if cur ~= seen then return {'retry', cur} end
  if cur ~= '' then
    local o = redis.call('HMGET', O, 'st', 'w')
    if o[1] and not terminal(o[1]) then
      if policy == 'single' then return {'busy', cur} end
      redis.call('HSETNX', O, 'stop', 'replaced')
      wake_worker(o[2], cur)
    elseif not o[1] then
      gone = cur
    end
  end
end
local n = now()
-- above the chat's youngest message in flight, so that L tells their order even within one millisecond
local youngest = redis.call('ZREVRANGE', L, 0, 0, 'WITHSCORES')
local ep = next_epoch(n, rnd, tonumber(youngest[2]) or 0)
-- first, so that a full Redis refuses the whole of it
redis.call('HSET', M, 'st', 'queued', 'ep', text(ep), 'seq', '1', 'tok', '', 'lu', '0', 'at', '0', 'w', '',
  'hash', hash, 'user', user, 'req', req, 'mid', mid, 'born', text(n), 'dl', text(n + tonumber(dl)),
  'pol', policy)
redis.call('DEL', S, F)
redis.call('XADD', S, text(ep) .. '-1', 'd', payload)
if gone then redis.call('ZREM', L, gone) end
redis.call('SET', A, mid, 'PX', ttl)
redis.call('SET', P, mid, 'PX', text(dl + keep))
redis.call('ZADD', L, ep, mid)
for i = 1, 4 do if i ~= 3 then redis.call('PEXPIRE', KEYS[i], ttl) end end
return {'created', text(ep)}
