-- RELEASE: the owner hands the message back, its attempt refunded, so that another worker may claim it at once.
-- ARGV 1 token  2 epoch
-- Reply {ok} | {fenced} | {gone}
local m = load_meta()
if not m.st then return {'gone'} end
if m.st ~= 'running' or m.tok ~= ARGV[1] or m.ep ~= tonumber(ARGV[2]) then return {'fenced'} end
even_if_full()
redis.call('HSET', M, 'st', 'queued', 'tok', '', 'lu', '0', 'at', text(m.at - 1), 'w', '', 'drained', '1')
return {'ok'}
