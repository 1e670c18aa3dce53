-- Activation sets with tokens of massive norm: how many, where, how large, and whether they count as valid.
select
    activation_set_id, model_id, hookpoint, n_valid_tokens, median_norm, n_massive, massive_share, max_norm,
    massive_positions, massive_tokens, sink_norm_multiple, masked_share
from activation_sets
where n_massive > 0
order by massive_share desc nulls last, activation_set_id
limit 100
