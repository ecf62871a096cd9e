-- RELEASE: the owner hands the message back, so that another worker may claim it at once. Its attempt is refunded if
-- the message was handed back less than `most` times before: each refund can mean another paid call.
-- ARGV 1 token  2 epoch  3 most times that are refunded (0: this one is not)
-- Reply {ok} | {fenced, state, epoch} | {gone}
local m = load_meta()
if not m.st then return {'gone'} end
if m.st ~= 'running' or m.tok ~= ARGV[1] or m.ep ~= tonumber(ARGV[2]) then
  return {'fenced', m.st, text(m.ep)}
end
even_if_full()
local at = m.at
if redis.call('HINCRBY', M, 'drained', 1) <= tonumber(ARGV[3]) then at = at - 1 end
redis.call('HSET', M, 'st', 'queued', 'tok', '', 'lu', '0', 'at', text(at), 'w', '')
return {'ok'}
