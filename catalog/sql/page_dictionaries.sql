-- One row per dictionary: size, fidelity on eval documents, coverage by labels and how many beat chance.
with counts as (
    select
        dictionary_id,
        max_by(activation_set_id, n_rows) as activation_set_id,
        max_by(n_rows, n_rows) as n_features,
        max_by(n_alive, n_rows) as n_alive,
        max_by(n_unseen, n_rows) as n_unseen,
        max_by(n_dense, n_rows) as n_dense
    from (
        select
            dictionary_id,
            activation_set_id,
            count(*) as n_rows,
            count_if(status = 'alive')::bigint as n_alive,
            count_if(status = 'unseen')::bigint as n_unseen,
            count_if(status = 'dense')::bigint as n_dense
        from features
        group by dictionary_id, activation_set_id
    )
    group by dictionary_id
),
labels as (
    select dictionary_id, count(distinct feature_index) as n_labelled
    from explanations
    where status = 'ok'
    group by dictionary_id
),
best as (
    select
        e.dictionary_id,
        e.feature_index,
        max(s.ci_low) as ci_low,
        max_by(s.score, s.ci_low) as value,
        max_by(s.chance, s.ci_low) as chance
    from explanation_scores as s
    join explanations as e using (explanation_id)
    group by e.dictionary_id, e.feature_index
),
scored as (
    select
        dictionary_id,
        count(*) as n_scored,
        count_if(ci_low > coalesce(chance, 0.5))::bigint as n_above_chance,
        median(value) as median_score
    from best
    group by dictionary_id
),
metrics as (
    select
        dictionary_id,
        max(value) filter (where metric = 'fvu') as fvu,
        max(control) filter (where metric = 'fvu') as fvu_control,
        max(value) filter (where metric = 'l0') as l0,
        max(value) filter (where metric = 'ce_recovered' and variant in ('mean_ablation', 'mean')) as ce_recovered,
        max(note) filter (where metric = 'ce_recovered' and variant in ('mean_ablation', 'mean')) as ce_note,
        max(n) filter (where metric = 'fvu') as n_metric_tokens
    from dictionary_metrics
    where split = 'eval'
    group by dictionary_id
),
current as (
    select alias, max_by(dictionary_id, valid_from) as dictionary_id
    from aliases
    group by alias
),
matched as (
    select dictionary_id, count(*) as n_matched
    from (
        select dictionary_a as dictionary_id, feature_a as feature_index from matches where mutual
        union
        select dictionary_b, feature_b from matches where mutual
    )
    group by dictionary_id
)
select
    d.dictionary_id,
    d.alias,
    d.reads[1].model_id as model_id,
    d.reads[1].hookpoint as hookpoint,
    d.architecture,
    d.d_in,
    d.d_sae,
    d.origin,
    d.verified,
    d.created_at,
    c.activation_set_id,
    coalesce(current.dictionary_id is null or current.dictionary_id = d.dictionary_id, true) as is_current,
    coalesce(c.n_features, 0) as n_features,
    coalesce(c.n_alive, 0) as n_alive,
    coalesce(c.n_unseen, 0) as n_unseen,
    coalesce(c.n_dense, 0) as n_dense,
    coalesce(l.n_labelled, 0) as n_labelled,
    coalesce(s.n_scored, 0) as n_scored,
    coalesce(s.n_above_chance, 0) as n_above_chance,
    s.median_score,
    coalesce(x.n_matched, 0) as n_matched,
    m.fvu,
    m.fvu_control,
    m.l0,
    m.ce_recovered,
    m.ce_note,
    m.n_metric_tokens
from dictionaries as d
left join counts as c using (dictionary_id)
left join labels as l using (dictionary_id)
left join scored as s using (dictionary_id)
left join metrics as m using (dictionary_id)
left join matched as x using (dictionary_id)
left join current on current.alias = d.alias
order by is_current desc, model_id, hookpoint, d.alias, d.created_at desc
