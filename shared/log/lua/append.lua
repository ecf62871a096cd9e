-- APPEND: the owner adds entries; none at all is a heartbeat. Renews the lease either way. Idempotent by seq.
-- KEYS 1-5 as in the prelude, 6 too where the keys' lives are renewed: a key in every append is dear
-- ARGV 1 token  2 epoch  3 seq of the first payload  4 lease ms  5 live ttl ms ('0': leave)  6.. payloads
-- Reply {ok, last seq, stop wish or ''} | {gap, last seq} | {fenced, state, epoch} | {final, state} | {lost} | {gone}
local tok, ep, first, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) then return {'final', m.st} end
if m.st ~= 'running' or m.tok ~= tok or m.ep ~= ep then return {'fenced', m.st, text(m.ep)} end
if first > m.seq + 1 then return {'gap', text(m.seq)} end
if #ARGV < 6 then even_if_full() end
local last, fresh = m.seq, {}
for i = 6, #ARGV do
  local q = first + i - 6
  if q > last then
    if not put(ep, q, ARGV[i]) then return {'lost'} end
    last = q
    fresh[#fresh + 1] = ARGV[i]
  end
end
redis.call('HSET', M, 'seq', text(last), 'lu', text(now() + lease))
if ttl ~= '0' then for _, key in ipairs({M, S, A, L, F}) do redis.call('PEXPIRE', key, ttl) end end
if #fresh > 0 then
  publish(ep, m.seq, ep, m.seq + 1, fresh)
elseif redis.call('EXISTS', S) == 0 then
  return {'lost'}
else
  redis.call('PUBLISH', S, text(ep) .. '-' .. text(last))
end
return {'ok', text(last), m.stop or ''}
