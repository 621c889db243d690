-- All of the units, or none: {1, nanoseconds until their turn, owed} or {0, nanoseconds to wait, owed}.
local after = owed + interval * units
if after <= burst + patience then
  keep(after)
  return {1, told(math.max(0, after - burst)), told(after)}
end
if is_other then
  keep(owed)
end
return {0, told(after - burst - patience), told(owed)}
