-- One row per dictionary: size, fidelity on eval documents, coverage by labels, labels above chance, and the share of
-- labels of random directions above chance on the same activation set.
with counts as (
    select
        dictionary_id,
        activation_set_id,
        count(*) as n_features,
        count_if(status = 'alive')::bigint as n_alive,
        count_if(status = 'unseen')::bigint as n_unseen,
        count_if(status = 'dense')::bigint as n_dense,
        count_if(n_matches > 0)::bigint as n_matched,
        median(score) as median_score
    from feature_cards
    group by dictionary_id, activation_set_id
),
-- A metric with several forms (hookpoints, quantiles, skip path only) has its total under the empty variant.
metrics as (
    select
        dictionary_id,
        activation_set_id,
        max(value) filter (where metric = 'fvu' and variant = '') as fvu,
        max(control) filter (where metric = 'fvu' and variant = '') as fvu_control,
        max(value) filter (where metric = 'fvu' and variant = 'without_massive') as fvu_without_massive,
        max(value) filter (where metric = 'l0' and variant = '') as l0,
        max(value) filter (where metric = 'ce_recovered' and variant = 'mean_ablation') as ce_recovered,
        max(note) filter (where metric = 'ce_recovered' and variant = 'mean_ablation') as ce_note,
        max(n) filter (where metric = 'fvu' and variant = '') as n_metric_tokens,
        max(n_documents) filter (where metric = 'fvu' and variant = '') as n_metric_documents,
        max(value) filter (where metric = 'fvu' and variant = 'without_massive') as fvu_without_massive,
        max(ci_low) filter (where metric = 'fvu' and variant = '') as fvu_ci_low,
        max(ci_high) filter (where metric = 'fvu' and variant = '') as fvu_ci_high
    from dictionary_metrics
    where split = 'eval'
    group by dictionary_id, activation_set_id
),
-- A dictionary with a random frozen decoder on the same set: a floor that is harder than random directions.
frozen as (
    select d.dictionary_id,
        arg_min(m.fvu, {'width': abs(ln(d.d_sae / f.d_sae)), 'id': f.dictionary_id}) as fvu,
        arg_min(q.above_share, {'width': abs(ln(d.d_sae / f.d_sae)), 'id': f.dictionary_id}) filter (where q.n_scored > 0)
            as above_share
    from dictionaries as d
    join dictionaries as f on f.activation_set_id = d.activation_set_id and f.dictionary_id <> d.dictionary_id
    join metrics as m on m.dictionary_id = f.dictionary_id and m.activation_set_id = f.activation_set_id
    left join label_quality as q on q.dictionary_id = f.dictionary_id
    where f.architecture = 'frozen_decoder'
    group by d.dictionary_id
),
random_sets as (
    select a.activation_set_id
    from activation_sets as a
    join models as m using (model_id)
    where m.source = 'reinitialised'
),
-- The dictionary itself on a model with random weights.
on_random as (
    select m.dictionary_id, arg_min(m.fvu, m.activation_set_id) as fvu
    from metrics as m
    join random_sets using (activation_set_id)
    join dictionaries as d on d.dictionary_id = m.dictionary_id and d.activation_set_id <> m.activation_set_id
    group by m.dictionary_id
),
current as (
    select alias, dictionary_id from current_aliases
)
select
    d.dictionary_id,
    d.alias,
    d.reads[1].model_id as model_id,
    d.reads[1].hookpoint as hookpoint,
    d.reads,
    d.writes,
    d.unit_type,
    d.architecture,
    d.config,
    d.d_in,
    d.d_sae,
    d.origin,
    d.verified,
    d.created_at,
    d.activation_set_id,
    d.parent_dictionary_id,
    coalesce(current.dictionary_id is null or current.dictionary_id = d.dictionary_id, true) as is_current,
    coalesce(c.n_features, 0) as n_features,
    coalesce(c.n_alive, 0) as n_alive,
    coalesce(c.n_unseen, 0) as n_unseen,
    coalesce(c.n_dense, 0) as n_dense,
    coalesce(q.n_labelled, 0) as n_labelled,
    coalesce(q.n_scored, 0) as n_scored,
    coalesce(q.n_above_chance, 0) as n_above_chance,
    q.random_above_share,
    q.random_dictionary_id,
    frozen.above_share as frozen_above_share,
    -- Null if it was never compared: 0 would mean that no feature was found again.
    case when d.dictionary_id in (select dictionary_a from matches union all select dictionary_b from matches)
        then coalesce(c.n_matched, 0) end as n_matched,
    c.median_score,
    m.fvu,
    m.fvu_control,
    frozen.fvu as fvu_frozen_decoder,
    on_random.fvu as fvu_random_model,
    m.fvu_without_massive,
    m.l0,
    case when r.activation_set_id is null then m.ce_recovered end as ce_recovered,
    case when r.activation_set_id is null then m.ce_note
        else 'no measure on random weights: the model predicts nothing that a reconstruction could recover' end as ce_note,
    m.n_metric_tokens,
    m.n_metric_documents,
    m.fvu_ci_low,
    m.fvu_ci_high,
    -- One massive token can hold half of the variance, so dictionaries with such tokens are ranked without them.
    coalesce(m.fvu_without_massive, m.fvu) as fvu_ranked,
    case when m.fvu_without_massive is null then 'all tokens' else 'without massive tokens' end as fvu_ranked_by
from dictionaries as d
left join counts as c using (dictionary_id)
left join label_quality as q on q.dictionary_id = c.dictionary_id and q.activation_set_id = c.activation_set_id
left join metrics as m on m.dictionary_id = d.dictionary_id and m.activation_set_id = d.activation_set_id
left join frozen on frozen.dictionary_id = d.dictionary_id
left join on_random on on_random.dictionary_id = d.dictionary_id
left join random_sets as r on r.activation_set_id = d.activation_set_id
left join current on current.alias = d.alias
order by is_current desc, model_id, hookpoint, d.alias, d.created_at desc
