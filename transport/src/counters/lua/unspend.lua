-- ARGV[1] units were not used after all. A count that is gone meanwhile stays gone, and none is below nothing.
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local less = math.min(used, tonumber(ARGV[1]))
if less > 0 then
  redis.call('INCRBY', KEYS[1], string.format('%.0f', -less))
end
return 0
