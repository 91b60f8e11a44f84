-- Stores first results, and takes jobs out of the queue and off the counts.
-- ARGV: ms to keep a result, results to keep, ms to keep one that is awaited, ms to keep a dead letter, dead letters to
--   keep, then for each job: "flow lane", sid, id, bytes, result, and what few have, in JSON, or '':
--   callback, awaited, unrun, dead (its failures)
-- Gives {1 where it was the first ...}, depths, the data's name
local WIDTH = 6
-- Lua passes no more than some thousand arguments.
local MOST = 500
local ttl, history, awaited_ttl, dead_ttl, dead_max = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
local firsts, listed, ids = {}, {}, {}
local settled, unrun, buried, bytes = 0, 0, 0, 0
local claims = {}
-- A job that was handed back is held by nobody; only then that is asked of each.
local some_returned = call('EXISTS', base .. 'returned') == 1

local function bury(id, flow, fields, failures, result)
  call('HSET', base .. 'dead:' .. id, 'flow', flow, 'failures', failures, 'result', result, 'died', now, unpack(fields))
  call('PEXPIRE', base .. 'dead:' .. id, dead_ttl)
  call('ZADD', base .. 'dead', now, id)
  buried = buried + 1
end

local function settle(place, sid, id, size, result, more)
  local known = claims[place]
  if not known then
    local flow, lane = string.match(place, '^(%S+) (%S*)$')
    known = {flow = flow, lane = lane, stream = base .. 'flow:' .. flow, sids = {}, first = 0, returned = 0}
    claims[place] = known
  end
  local fields = more.dead and entry_of(known.flow, sid)
  local returned = some_returned and held(known.flow, sid) == NOBODY
  -- The entry is in the stream exactly as long as its job is unsettled: who deletes it is first, also when the group
  -- was lost or the first result has expired. XDEL comes first because it is allowed when memory is full.
  local first = call('XDEL', known.stream, sid)
  known.sids[#known.sids + 1] = sid
  if first == 0 then return 0 end
  publish(id, known.flow, size, result, more.awaited and awaited_ttl or ttl, more.callback, now)
  known.first = known.first + 1
  if returned then known.returned = known.returned + 1 end
  bytes = bytes + size
  if not more.awaited then listed[#listed + 1] = id end
  if fields then bury(id, known.flow, fields, more.dead, result) end
  ids[#ids + 1] = id
  settled = settled + 1
  if more.unrun then unrun = unrun + 1 end
  return 1
end

local NOTHING = {}
for a = 6, #ARGV, WIDTH do
  local more = ARGV[a + 5]
  more = more == '' and NOTHING or cjson.decode(more)
  firsts[#firsts + 1] = settle(ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3]), ARGV[a + 4], more)
end
for _, known in pairs(claims) do
  local acknowledged = 0
  for from = 1, #known.sids, MOST do
    local to = math.min(from + MOST - 1, #known.sids)
    acknowledged = acknowledged + call('XACK', known.stream, GROUP, unpack(known.sids, from, to))
  end
  -- What somebody else put there without a lane was never counted.
  if known.lane ~= '' then
    count('running', known.lane, known.returned - acknowledged)
    count('depth', known.lane, -known.first)
  end
end
count('count', 'bytes', -bytes)
count('count', 'settled', settled)
count('count', 'unrun', unrun)
if #listed > 0 then
  for from = 1, #listed, MOST do
    call('LPUSH', base .. 'results', unpack(listed, from, math.min(from + MOST - 1, #listed)))
  end
  call('LTRIM', base .. 'results', 0, history - 1)
end
if buried > 0 then
  for _, old in ipairs(call('ZRANGE', base .. 'dead', 0, -dead_max - 1)) do
    call('DEL', base .. 'dead:' .. old)
    call('ZREM', base .. 'dead', old)
  end
end
tell(ids, now)
return {firsts, call('HGETALL', base .. 'depth'), call('GET', base .. 'born') or ''}
