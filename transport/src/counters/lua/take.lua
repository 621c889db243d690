-- All of ARGV[3] units, or none: {1, 0, left} or {0, nanoseconds to wait, left}.
local after = owed + interval * tonumber(ARGV[3])
if after <= burst then
  keep(after)
  return {1, 0, units(burst - after)}
end
return {0, wait(after - burst), units(burst - owed)}
