-- Prepended to every script of the log. KEYS[1..6] are the same everywhere, as far as a script gets them (CHECKPOINT
-- has an order of its own):
--   1 M  meta hash of the message        2 S  stream of its entries (also its channel's name)
--   3 A  the chat's active message id    4 L  zset of the chat's messages in flight, by epoch of creation
--   5 G  tombstone: outlives M, so that "it existed" can be told from "it never did"
--   6 F  list of segments, S's entries once more with their deltas joined; given only to scripts that touch it
-- Fields of M: st state, ep epoch, seq an entry that is there (the last one S alone knows: EXTEND writes no record),
--   tok owner token, lu lease until (ms), at attempts, w worker, stop wish to stop, hash body hash,
--   user whose message it is, born ms, dl deadline ms, pol policy, req request, mid message id,
--   ftok token of the finisher, final folded message, ost/ofin/oend a decided outcome, drained times handed back,
--   told ms when somebody got the end.
-- Only the server's clock is used; a script replicates as one unit, and so does an EXTEND.
local M, S, A, L, G, F = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function text(n) return string.format('%.0f', n) end

-- The seq of the log's last entry; where the stream is lost, or was not given, of one that was there.
local function last_seq(known)
  local last = S and redis.call('XREVRANGE', S, '+', '-', 'COUNT', 1)[1]
  return tonumber(last and string.match(last[1], '%d+$') or known)
end

local function load_meta()
  local v = redis.call('HMGET', M, 'st', 'ep', 'seq', 'tok', 'lu', 'at', 'w', 'stop', 'ost', 'dl')
  return {
    st = v[1], ep = tonumber(v[2]), seq = v[3] and last_seq(v[3]), tok = v[4], lu = tonumber(v[5]) or 0,
    at = tonumber(v[6]) or 0, w = v[7], stop = v[8], ost = v[9], dl = tonumber(v[10]) or 0,
  }
end

local function terminal(st) return st == 'done' or st == 'failed' or st == 'aborted' or st == 'deleted' end

-- Below 2^53 until the year 2255. The random part keeps two claims apart that a failover made from one state;
-- it stays in the sum when the clock is behind the old epoch.
local function next_epoch(n, rnd, old) return math.max(n * 1000 + tonumber(rnd), old + 1 + tonumber(rnd)) end

local function put(ep, seq, payload)
  return redis.call('XADD', S, 'NOMKSTREAM', text(ep) .. '-' .. text(seq), 'd', payload)
end

-- One published batch: "<id before it> <id of the first>", then one payload a line.
local function publish(prev_ep, prev_seq, ep, first, payloads)
  redis.call('PUBLISH', S, text(prev_ep) .. '-' .. text(prev_seq) .. ' ' .. text(ep) .. '-' .. text(first)
    .. '\n' .. table.concat(payloads, '\n'))
end

local function wake_worker(w, mid)
  if w and w ~= '' then redis.call('PUBLISH', w, mid) end
end

-- A full Redis refuses commands that need memory, but only until a script's first write. What ends a message, or
-- keeps a lease, must still work then, and says so by a write that changes nothing.
local function even_if_full() redis.call('HDEL', M, '-') end

local function settle(mid, stream_ttl, meta_ttl, tomb_ttl)
  redis.call('ZREM', L, mid)
  if redis.call('GET', A) == mid then
    local other = redis.call('ZREVRANGE', L, 0, 0)
    if other[1] then redis.call('SET', A, other[1], 'PX', meta_ttl) else redis.call('DEL', A) end
  end
  redis.call('PEXPIRE', S, stream_ttl)
  redis.call('PEXPIRE', F, stream_ttl)
  redis.call('PEXPIRE', M, meta_ttl)
  redis.call('SET', G, redis.call('HGET', M, 'user') or '', 'PX', tomb_ttl)
end
