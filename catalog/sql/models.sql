-- Language models with the activation sets, dictionaries and features made from them.
select
    m.model_id,
    m.source,
    m.revision,
    m.architecture,
    m.n_layers,
    m.d_model,
    m.vocab_size,
    m.n_parameters,
    count(distinct a.activation_set_id) as n_activation_sets,
    -- Sets of several hookpoints hold the same texts, so their tokens are not added up.
    coalesce(max(a.n_valid_tokens), 0)::bigint as n_valid_tokens
from models as m
left join activation_sets as a using (model_id)
group by all
order by m.model_id
