-- DECIDE: the owner fixes the outcome before anybody is told; the first decision wins, whoever made it.
-- Used where replicas are waited for, between the last token and FINISH.
-- ARGV 1 token  2 epoch  3 state  4 final message  5 end payload
-- Reply {ok, decided state} | {fenced, state, epoch} | {final, state} | {gone}
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) then return {'final', m.st} end
if m.st ~= 'running' or m.tok ~= ARGV[1] or m.ep ~= tonumber(ARGV[2]) then return {'fenced', m.st, text(m.ep)} end
if m.ost then return {'ok', m.ost} end
even_if_full()
redis.call('HSET', M, 'ost', ARGV[3], 'ofin', ARGV[4], 'oend', ARGV[5])
return {'ok', ARGV[3]}
