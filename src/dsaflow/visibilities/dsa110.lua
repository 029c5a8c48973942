--[[
 AOFlagger strategy for one DSA-110 baseline and polarisation.

 The input is an amplitude in units of that baseline's noise, less its smooth part in time: the
 bandpass and the sky have been taken out before. There are only 24 integrations, so there are no
 statistics of whole rows or columns here (those are taken over all baselines beforehand), no
 low-pass filter, and an iteration at a raised threshold only keeps strong interference
 out of the estimate of the noise.

 The threshold spares noise: whatever is cut for its amplitude alone takes sky with it, since noise
 and sky add to that amplitude. Of a source far below the noise of one visibility the same fraction
 is lost as of the visibilities' power: 2.7 % at a threshold of 0.85 (0.9 % of clean samples), 0.06 %
 at 1.3 (0.01 %).
]]

aoflagger.require_min_version("3.0")

function execute(input)
  local base_threshold = 1.3
  for _, factor in ipairs({ 3.0, 1.0 }) do
    local level = factor * base_threshold
    aoflagger.sumthreshold(input, level, level, true, true)
  end
  aoflagger.scale_invariant_rank_operator(input, 0.1, 0.1)
end
