-- ARGV[6] units were used ahead of this and are owed; then as many of the units as there is room for: {granted, nanoseconds until there is
-- room for one more, owed}.
owed = math.min(most, owed + interval * tonumber(ARGV[6]))
local granted = math.min(units, math.floor(math.max(0, burst - owed) / interval))
owed = owed + granted * interval
keep(owed)
return {granted, told(math.max(0, owed + interval - burst)), told(owed)}
