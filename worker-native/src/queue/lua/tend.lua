-- Looks after a task: mends what others broke, counts what was lost, forgets what is gone.
-- ARGV: a new name for this data, the name it had when last seen or '', jobs unsettled then, ms between two looks,
--   ms to keep a dead letter, ms to remember that a loss was counted
-- Gives the data's name, jobs lost since the last look, groups made again
local now = now_ms()
-- The first write frees: all that follow are allowed when memory is full, and then consumers depend on this to go on.
call('ZREMRANGEBYSCORE', base .. 'dead', '-inf', now - tonumber(ARGV[5]))
local born = call('GET', base .. 'born')
local lost, remade = 0, 0
local is_new = not born
if is_new then
  -- All data are gone, or this is the beginning.
  born = ARGV[1]
  call('SET', base .. 'born', born)
end
-- Those that were here before are gone, whoever found these first; the first who knew them counts what they held.
if ARGV[2] ~= '' and ARGV[2] ~= born and call('SET', base .. 'mourned:' .. ARGV[2], '1', 'NX', 'PX', ARGV[6]) then
  lost = tonumber(ARGV[3])
  count('count', 'lost', lost)
end
if not is_new and not call('SET', base .. 'tended', '1', 'NX', 'PX', ARGV[4]) then return {born, lost, 0} end
local waiting, pending, found = 0, 0, 0

-- Counts what consumers hold, and forgets those that are gone.
local function tend_consumers(stream)
  for _, info in ipairs(call('XINFO', 'CONSUMERS', stream, GROUP)) do
    local name, holds = field(info, 'name'), field(info, 'pending')
    if name ~= NOBODY then pending = pending + holds end
    if holds == 0 and field(info, 'idle') > 3600000 then call('XGROUP', 'DELCONSUMER', stream, GROUP, name) end
  end
end

local function tend_flow(flow)
  local stream = base .. 'flow:' .. flow
  local length = call('XLEN', stream)
  -- One whose jobs all wait for another try stays: they come back to it.
  if length == 0 and tenant_of(flow) ~= '' and number('tenants', tenant_of(flow)) <= 0 then
    call('DEL', stream)
    call('SREM', base .. 'flows', flow)
    rests(flow)
    return
  end
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err or not groups[1] then
    make_group(flow)
    remade = remade + 1
    groups = call('XINFO', 'GROUPS', stream)
  end
  tend_consumers(stream)
  waiting = waiting + length
  local head = after(flow, field(groups[1], 'last-delivered-id'))
  if head then waits(flow, head) end
end

local function sum(key)
  local total = 0
  for _, n in ipairs(call('HVALS', base .. key)) do total = total + tonumber(n) end
  return total
end

-- The counters from what is there; only after somebody else changed the data.
local function recount()
  local depth, running, tenants, tenant_bytes, bytes, foreign = {}, {}, {}, {}, 0, 0
  local function add(table, name, n) table[name] = (table[name] or 0) + n end
  local function job(flow, lane, size)
    add(depth, lane, 1)
    bytes = bytes + size
    add(tenants, tenant_of(flow), 1)
    add(tenant_bytes, tenant_of(flow), size)
  end
  for _, flow in ipairs(call('SMEMBERS', base .. 'flows')) do
    local stream, lanes = base .. 'flow:' .. flow, {}
    local from = '-'
    repeat
      local page = call('XRANGE', stream, from, '+', 'COUNT', 1000)
      for _, entry in ipairs(page) do
        local lane, _, size = parse_meta(field(entry[2], 'm'))
        -- What somebody else put there is no job of ours until a consumer sets it aside.
        lanes[entry[1]] = lane or ''
        if lane then job(flow, lane, tonumber(size)) else foreign = foreign + 1 end
        from = '(' .. entry[1]
      end
    until #page < 1000
    local start = '-'
    repeat
      local page = call('XPENDING', stream, GROUP, start, '+', 1000)
      for _, one in ipairs(page) do
        start = '(' .. one[1]
        local lane = lanes[one[1]]
        if lane and one[2] ~= NOBODY then
          add(running, lane, 1)
        elseif not lane then
          call('XACK', stream, GROUP, one[1])
        end
      end
    until #page < 1000
  end
  for _, id in ipairs(call('ZRANGE', base .. 'delayed', 0, -1)) do
    local f = call('HMGET', base .. 'later:' .. id, 'flow', 'm')
    local lane, _, size = parse_meta(f[2])
    if lane then job(f[1], lane, tonumber(size)) else call('ZREM', base .. 'delayed', id) end
  end
  local function write(key, counts)
    call('DEL', base .. key)
    for name, n in pairs(counts) do
      if name ~= '' then call('HSET', base .. key, name, n) end
    end
  end
  write('depth', depth)
  write('running', running)
  write('tenants', tenants)
  write('tenant_bytes', tenant_bytes)
  -- Remembered, so that they are no reason to count all jobs again at the next look.
  call('HSET', base .. 'count', 'bytes', bytes, 'foreign', foreign, 'foreign_held', running[''] or 0)
end

for _, flow in ipairs(call('SMEMBERS', base .. 'flows')) do tend_flow(flow) end
local unsettled = sum('depth')
local counted = waiting - number('count', 'foreign') + call('ZCARD', base .. 'delayed')
if counted ~= unsettled or pending - number('count', 'foreign_held') ~= sum('running') then
  recount()
  found = math.max(0, unsettled - sum('depth'))
end
-- Those that a claim found to be gone, and made.
remade = remade + number('count', 'found_remade')
call('HDEL', base .. 'count', 'found_remade')
count('count', 'lost', found)
return {born, lost + found, remade}
