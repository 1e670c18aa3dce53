-- How well a linear probe predicts a feature's firing from each cached hookpoint of the model, in the order of the model;
-- no row if it was not probed.
select hookpoint, depth, is_own, auroc, null_auroc, null_high, is_decodable, is_first, n_firing, n_tokens
from decodability
where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id and feature_index = $feature_index
order by depth
