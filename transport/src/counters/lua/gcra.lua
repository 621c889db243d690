-- What the scripts of rate limits begin with. One key is one moment: until then all that was taken is paid for. It is kept as whole seconds and
-- nanoseconds, since a Lua number has no room for both. `owed` is what is still to be paid, in nanoseconds.
local time = redis.call('TIME')
local second, nano = tonumber(time[1]), tonumber(time[2]) * 1000
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local owed = 0
local seconds, nanos = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (-?%d+)$')
if seconds then
  owed = math.max(0, (tonumber(seconds) - second) * 1e9 + (tonumber(nanos) - nano))
end
local function keep(owed)
  if owed <= 0 then
    redis.call('DEL', KEYS[1])
    return
  end
  local sum = nano + owed
  local whole = math.floor(sum / 1e9)
  local state = string.format('%.0f %.0f', second + whole, sum - whole * 1e9)
  redis.call('SET', KEYS[1], state, 'PX', string.format('%.0f', math.floor(owed / 1e6) + 1))
end
local function units(nanos)
  return math.min(4294967295, math.floor(math.max(0, nanos) / interval))
end
local function wait(nanos)
  return math.min(9e18, nanos)
end
