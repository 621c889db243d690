-- ARGV[1] units of no more than ARGV[2] in a period that is over in ARGV[3] milliseconds: {1, used with them} or {0, used}. ARGV[4] units were
-- used before, room or no room.
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local units, owed = tonumber(ARGV[1]), tonumber(ARGV[4])
local is_room = used + owed + units <= tonumber(ARGV[2])
local more = owed + (is_room and units or 0)
if more > 0 then
  used = redis.call('INCRBY', KEYS[1], string.format('%.0f', more))
  if redis.call('PTTL', KEYS[1]) < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
end
return {is_room and 1 or 0, used}
