-- Gives a consumer the jobs whose turn it is.
-- ARGV: consumer, number of this claim, limit, handicap of a normal job in ms
-- Gives now, {{flow, claims before this one, entries} ...}
local consumer, limit, step = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local CLASSES = {'high', 'normal', 'low'}
local HANDICAP = {high = 0, normal = step, low = 5 * step}
-- So many jobs of others a class that waits lets pass before it gets one itself: one in twenty is its own.
local PASSES = 19
local now = now_ms()
if is_late(consumer, ARGV[2]) then return {now, {}} end
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
      if watched then ids[#ids + 1] = id end
      new_flow(f[1])
      waits(f[1], sid)
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
      if got[1] then
        give(flow, claims, got)
        note(got)
      end
    end
  end
end

local function read(flow, n)
  local command = {'XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', n, 'STREAMS', base .. 'flow:' .. flow, '>'}
  local found = redis.pcall(unpack(command))
  if found and found.err then
    -- What lies in the stream was accepted: from its beginning.
    make_group(flow)
    count('count', 'found_remade', 1)
    found = redis.pcall(unpack(command))
  end
  if not found or found.err then return {} end
  return found[1][2]
end

-- The flow of a class whose turn it is; the class ranks by the oldest job of all its flows.
local function first_of(place)
  local class = CLASSES[place]
  local first = call('ZRANGE', base .. 'ring:' .. class, 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local oldest = call('ZRANGE', base .. 'ages:' .. class, 0, 0, 'WITHSCORES')
  return {
    class = class, place = place, flow = first[1], turn = first[2], is_oldest = oldest[1] == first[1],
    rank = tonumber(oldest[2] or now) + HANDICAP[class],
  }
end

-- How many of a flow's jobs go, `most` at the most, before one of them is younger than that of another class.
local function in_time(candidate, most, rival)
  if not rival or not candidate.is_oldest or most == 1 then return most end
  local head = call('HGET', base .. 'heads', candidate.flow)
  -- Of the same rank the more urgent one goes first.
  local last = rival.rank - HANDICAP[candidate.class] - (rival.place < candidate.place and 1 or 0)
  if not head or last < 0 then return 1 end
  local found = call('XRANGE', base .. 'flow:' .. candidate.flow, head, string.format('%.0f', last), 'COUNT', most)
  return math.max(1, #found)
end

local function serve(candidate, most, rival)
  local ring = base .. 'ring:' .. candidate.class
  local flows = call('ZCARD', ring)
  local n = flows == 1 and most or math.max(1, math.floor(most / flows))
  n = in_time(candidate, n, rival)
  local entries = read(candidate.flow, n)
  local head = nil
  if #entries > 0 then
    give(candidate.flow, 0, entries)
    note(entries)
    head = #entries == n and after(candidate.flow, entries[#entries][1])
  end
  if head then set_head(candidate.flow, head) else rests(candidate.flow) end
  -- Who is alone takes from nobody. The class's virtual time is that of the flow served last: who comes back begins there.
  if flows > 1 then
    if head then call('ZINCRBY', ring, n, candidate.flow) end
    call('HSET', base .. 'count', 'turn:' .. candidate.class, candidate.turn)
  end
  return #entries
end

local function take_waiting()
  -- By class, the most urgent first: the candidate, and how many jobs of others it has let pass.
  local waiting, passed = {}, {}
  local before = call('HMGET', base .. 'count', 'passed:high', 'passed:normal', 'passed:low')
  for place in ipairs(CLASSES) do
    waiting[place] = first_of(place) or false
    before[place] = tonumber(before[place] or 0)
    -- Who has nothing that waits saves nothing up.
    passed[place] = waiting[place] and before[place] or 0
  end

  local function serve_class(place, most, rival)
    local got = serve(waiting[place], most, rival)
    waiting[place] = first_of(place) or false
    for other in ipairs(CLASSES) do
      if other ~= place and waiting[other] then passed[other] = passed[other] + got end
    end
    return got
  end

  -- Whose turn it is by rank, and who is next.
  local function best_two()
    local best, rival = nil, nil
    for _, one in ipairs(waiting) do
      if one and (not best or one.rank < best.rank) then
        best, rival = one, best
      elseif one and (not rival or one.rank < rival.rank) then
        rival = one
      end
    end
    return best, rival
  end

  local best, rival = best_two()
  while best and taken < limit do
    for place = #CLASSES, 1, -1 do
      local due = math.floor(passed[place] / PASSES)
      if due > 0 and waiting[place] and place ~= best.place and taken < limit then
        passed[place] = passed[place] - PASSES * math.max(1, serve_class(place, math.min(due, limit - taken)))
      end
    end
    best, rival = best_two()
    if best and taken < limit then
      passed[best.place] = 0
      serve_class(best.place, limit - taken, rival)
      best, rival = best_two()
    end
  end
  for place, class in ipairs(CLASSES) do count('count', 'passed:' .. class, passed[place] - before[place]) end
end

-- In this order: when memory is full, a script may store only after its first write that frees or moves something.
take_returned()
promote()
take_waiting()
for lane, n in pairs(lanes) do count('running', lane, n) end
tell(ids, now)
-- Something may be left for somebody else.
if taken > 0 and taken == limit then wake() end
return {now, given}
