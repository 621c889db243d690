-- What the scripts of rate limits begin with. One key is one moment: until then all that was taken is paid for. It is kept as whole seconds and
-- nanoseconds, since a Lua number has no room for both. `owed` is what is still to be paid, in nanoseconds.
local time = redis.call('TIME')
local second, nano = tonumber(time[1]), tonumber(time[2]) * 1000
local interval, burst, patience, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local units = tonumber(ARGV[5])
local owed = 0
local seconds, nanos = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (-?%d+)$')
if seconds then
  owed = (tonumber(seconds) - second) * 1e9 + (tonumber(nanos) - nano)
  owed = math.max(0, owed)
end
-- Whoever owes more than the limit has it now counts as owing just that. A second more is no more: another server's clock may be a little behind.
local is_other = owed > most + 1e9
if is_other then
  owed = most
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
-- A server takes numbers up to 2^63.
local function told(nanos)
  return math.min(9e18, nanos)
end
