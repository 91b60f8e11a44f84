-- Stores jobs and counts them; each is refused or answered again on its own.
-- ARGV: max depth, max bytes, percent of them for one tenant, ms to keep a key, most flows, number of kinds,
--   for each kind: flow, lane,
--   for each job: its kind, id, META up to its starts, ms left or '-', body, and what few have, in JSON, or '':
--   room, key, print (fingerprint), status, answer
-- Gives {{1} stored | {0, bound, depth, bytes} | {2, status, body} | {3} conflict ...}, depths, the data's name
local WIDTH = 6
local max_depth, max_bytes, percent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) / 100
local now = now_ms()
local forever = now .. ' -'
local total, bytes = 0, number('count', 'bytes')
local answers, stored, kinds, lines, coming, first = {}, 0, {}, {}, 0, 7
-- What the kinds of one flow share.
local function line_of(wish)
  local flow, is_new = flow_for(wish, tonumber(ARGV[5]), coming)
  local line = lines[flow]
  if not line then
    line = {flow = flow, tenant = tenant_of(flow), stream = base .. 'flow:' .. flow, place = '@' .. flow .. ' '}
    lines[flow] = line
    lines[#lines + 1] = line
    if is_new then coming = coming + 1 end
  end
  return line
end
for kind = 1, tonumber(ARGV[6]) do
  kinds[kind] = {line = line_of(ARGV[first]), lane = ARGV[first + 1], stored = 0}
  first = first + 2
end
local depth = call('HGETALL', base .. 'depth')
for i = 2, #depth, 2 do total = total + math.max(0, tonumber(depth[i])) end
local bytes_before = bytes

local function kept(key, fingerprint)
  local text = call('GET', base .. 'idem:' .. key)
  if not text then return nil end
  local print, status, body = string.match(text, '^(%S+) (%d+) (.*)$')
  if print ~= fingerprint then return {3} end
  return {2, status, body}
end

local function no_room(tenant, size, room)
  if total >= max_depth then return 'jobs' end
  if bytes + size > max_bytes then return 'bytes' end
  if room and total >= room then return 'wait' end
  if tenant ~= '' and (number('tenants', tenant) >= max_depth * percent
      or number('tenant_bytes', tenant) + size > max_bytes * percent) then
    return 'tenant'
  end
  return nil
end

local function store(kind, id, meta, left, body, more)
  local line = kind.line
  if more.key then
    local before = kept(more.key, more.print)
    if before then return before end
  end
  local size = #body
  local bound = no_room(line.tenant, size, more.room)
  if bound then
    -- One that is there already takes no room.
    if call('EXISTS', base .. 'job:' .. id) == 1 then return {1} end
    return {0, bound, total, bytes}
  end
  meta = meta .. (left == '-' and forever or now .. ' ' .. (now + tonumber(left)))
  local sid = call('XADD', line.stream, '*', 'm', meta, 'b', body)
  -- No time to live while the job is queued: a result must find its state.
  if not call('SET', base .. 'job:' .. id, line.place .. sid, 'NX') then
    call('XDEL', line.stream, sid)
    return {1}
  end
  if more.key then
    local answer = more.print .. ' ' .. more.status .. ' ' .. more.answer
    call('SET', base .. 'idem:' .. more.key, answer, 'PX', ARGV[4])
  end
  count_tenant(line.tenant, 1, size)
  kind.stored, line.first = kind.stored + 1, line.first or sid
  total, bytes, stored = total + 1, bytes + size, stored + 1
  return {1}
end

local NOTHING = {}
for a = first, #ARGV, WIDTH do
  local more = ARGV[a + 5]
  more = more == '' and NOTHING or cjson.decode(more)
  answers[#answers + 1] = store(kinds[tonumber(ARGV[a])], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], more)
end
for _, kind in ipairs(kinds) do count('depth', kind.lane, kind.stored) end
for _, line in ipairs(lines) do
  if line.first then
    new_flow(line.flow)
    waits(line.flow, line.first)
  end
end
count('count', 'bytes', bytes - bytes_before)
if stored > 0 then wake() end
return {answers, call('HGETALL', base .. 'depth'), call('GET', base .. 'born') or ''}
