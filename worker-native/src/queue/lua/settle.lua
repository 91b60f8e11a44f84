-- Stores first results, and takes jobs out of the queue and off the counts.
-- ARGV: ms to keep a result, results to keep, ms to keep one that is awaited, ms to keep a dead letter, dead letters to
--   keep, then for each job: flow, sid, id, lane, bytes, callback, outcome, result, awaited or '', failures
-- Gives {1 where it was the first ...}, depths
local WIDTH = 10
local ttl, history, awaited_ttl, dead_ttl, dead_max = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
local firsts, listed, ids = {}, {}, {}
local settled, buried, bytes = 0, 0, 0
local depth, claims = {}, {}

local function bury(id, flow, fields, failures, result)
  call('HSET', base .. 'dead:' .. id, 'flow', flow, 'failures', failures, 'result', result, 'died', now, unpack(fields))
  call('PEXPIRE', base .. 'dead:' .. id, dead_ttl)
  call('ZADD', base .. 'dead', now, id)
  buried = buried + 1
end

local function settle(flow, sid, id, lane, size, callback, outcome, result, awaited, failures)
  local fields = outcome == 'dead' and entry_of(flow, sid)
  -- The entry is in the stream exactly as long as its job is unsettled: who deletes it is first, also when the group
  -- was lost or the first result has expired. XDEL comes first because it is allowed when memory is full.
  local first = call('XDEL', base .. 'flow:' .. flow, sid)
  local place = lane .. ' ' .. flow
  claims[place] = claims[place] or {}
  table.insert(claims[place], sid)
  if first == 0 then return 0 end
  publish(id, flow, size, result, awaited and awaited_ttl or ttl, callback, now)
  -- What somebody else put there without a lane was never counted.
  if lane ~= '' then
    depth[lane] = (depth[lane] or 0) + 1
    bytes = bytes + size
  end
  if not awaited then listed[#listed + 1] = id end
  if fields then bury(id, flow, fields, failures, result) end
  ids[#ids + 1] = id
  settled = settled + 1
  return 1
end

for a = 6, #ARGV, WIDTH do
  firsts[#firsts + 1] = settle(ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4]), ARGV[a + 5],
    ARGV[a + 6], ARGV[a + 7], ARGV[a + 8] ~= '', ARGV[a + 9])
end
for place, sids in pairs(claims) do
  local lane, flow = string.match(place, '^(%S*) (.*)$')
  local acknowledged = call('XACK', base .. 'flow:' .. flow, GROUP, unpack(sids))
  if lane ~= '' then count('running', lane, -acknowledged) end
end
for lane, n in pairs(depth) do count('depth', lane, -n) end
count('count', 'bytes', -bytes)
count('count', 'settled', settled)
if #listed > 0 then
  for from = 1, #listed, 500 do
    call('LPUSH', base .. 'results', unpack(listed, from, math.min(from + 499, #listed)))
  end
  call('LTRIM', base .. 'results', 0, history - 1)
end
if buried > 0 then
  for _, old in ipairs(call('ZRANGE', base .. 'dead', 0, -dead_max - 1)) do
    call('DEL', base .. 'dead:' .. old)
    call('ZREM', base .. 'dead', old)
    count('count', 'dead_dropped', 1)
  end
end
tell(ids, now)
return {firsts, call('HGETALL', base .. 'depth')}
