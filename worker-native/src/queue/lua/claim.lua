-- Gives a consumer the jobs whose turn it is.
-- ARGV: consumer, limit, handicap of a normal job in ms
-- Gives now, {{flow, claims before this one, entries} ...}
local consumer, limit, step = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local CLASSES = {'high', 'normal', 'low'}
local HANDICAP = {high = 0, normal = step, low = 5 * step}
-- One job in so many goes to a lower class that waits.
local SHARE = 20
local now = now_ms()
local given, taken, lanes, ids = {}, 0, {}, {}
local watched = is_watched()

local function note(entries)
  for _, entry in ipairs(entries) do
    local meta = field(entry[2], 'm')
    local space = meta and string.find(meta, ' ', 1, true)
    if space then
      local lane = string.sub(meta, 1, space - 1)
      lanes[lane] = (lanes[lane] or 0) + 1
      if watched then ids[#ids + 1] = string.match(meta, '^%S+ (%S+)') end
    end
  end
end

local function give(flow, before, entries)
  given[#given + 1] = {flow, before, entries}
  taken = taken + #entries
end

-- Jobs whose pause is over wait again.
local function promote()
  for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'delayed', '-inf', now, 'LIMIT', 0, limit)) do
    local f = call('HMGET', base .. 'later:' .. id, 'flow', 'm', 'b', 'e')
    if f[1] then
      local sid = redis.pcall('XADD', base .. 'flow:' .. f[1], '*', 'm', f[2], 'b', f[3], 'e', f[4])
      -- Memory is full: later.
      if type(sid) == 'table' then return end
      call('SET', base .. 'job:' .. id, '@' .. f[1] .. ' ' .. sid)
      call('DEL', base .. 'later:' .. id)
      new_flow(f[1])
      waits(f[1], now)
    end
    call('ZREM', base .. 'delayed', id)
  end
end

-- Jobs that were handed back go first: they have had their turn.
local function take_returned()
  while taken < limit do
    local place = call('LPOP', base .. 'returned')
    if not place then return end
    local flow, sid = string.match(place, '^(.*) (%S+)$')
    local owner, claims = held(flow, sid)
    if owner == NOBODY then
      local got = call('XCLAIM', base .. 'flow:' .. flow, GROUP, consumer, 0, sid, 'RETRYCOUNT', claims + 1)
      -- Counted as running all the time: no counter moves.
      if got[1] then give(flow, claims, got) end
    end
  end
end

local function read(flow, n)
  local command = {'XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', n, 'STREAMS', base .. 'flow:' .. flow, '>'}
  local found = redis.pcall(unpack(command))
  if found and found.err then
    -- What lies in the stream was accepted: from its beginning.
    make_group(flow)
    count('count', 'remade', 1)
    found = redis.pcall(unpack(command))
  end
  if not found or found.err then return {} end
  return found[1][2]
end

-- The flow of a class whose turn it is.
local function first_of(class)
  local first = call('ZRANGE', base .. 'ring:' .. class, 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local head = tonumber(call('HGET', base .. 'heads', first[1]) or now)
  return {class = class, flow = first[1], turn = first[2], rank = head + HANDICAP[class]}
end

local function serve(candidate, most)
  local ring = base .. 'ring:' .. candidate.class
  local flows = call('ZCARD', ring)
  local n = flows == 1 and most or math.max(1, math.floor(most / flows))
  local entries = read(candidate.flow, n)
  if #entries > 0 then
    give(candidate.flow, 0, entries)
    note(entries)
  end
  if #entries < n then
    call('ZREM', ring, candidate.flow)
    call('HDEL', base .. 'heads', candidate.flow)
  else
    -- The age of what was taken last stands for that of what is next.
    call('HSET', base .. 'heads', candidate.flow, string.match(entries[#entries][1], '^%d+'))
  end
  -- Who is alone takes from nobody. The class's virtual time is that of the flow served last: who comes back begins there.
  if flows > 1 then
    if #entries == n then call('ZINCRBY', ring, n, candidate.flow) end
    call('HSET', base .. 'heads', 'v:' .. candidate.class, candidate.turn)
  end
  return #entries
end

local function take_waiting()
  local waiting = {}
  for _, class in ipairs(CLASSES) do waiting[class] = first_of(class) end
  while taken < limit do
    local best, others = nil, {}
    for _, class in ipairs(CLASSES) do
      local candidate = waiting[class]
      if candidate and (not best or candidate.rank < best.rank) then best = candidate end
    end
    if not best then return end
    for _, class in ipairs(CLASSES) do
      if waiting[class] and waiting[class] ~= best then others[#others + 1] = waiting[class] end
    end
    local most = limit - taken
    for _, other in ipairs(others) do
      local due = math.floor(number('count', 'credit:' .. other.class) / SHARE)
      if due > 0 and taken < limit then
        local got = serve(other, math.min(due, limit - taken))
        count('count', 'credit:' .. other.class, -SHARE * math.max(1, got))
        waiting[other.class] = first_of(other.class)
      end
    end
    most = math.min(most, limit - taken)
    if most > 0 then
      local got = serve(best, most)
      for _, other in ipairs(others) do count('count', 'credit:' .. other.class, got) end
      if #others == 0 then call('HDEL', base .. 'count', 'credit:high', 'credit:normal', 'credit:low') end
    end
    waiting[best.class] = first_of(best.class)
  end
end

promote()
take_returned()
take_waiting()
for lane, n in pairs(lanes) do count('running', lane, n) end
if taken > 0 then
  tell(ids, now)
  -- Something may be left for somebody else.
  if taken == limit then wake() end
end
return {now, given}
