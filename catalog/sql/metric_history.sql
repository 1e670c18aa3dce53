-- Main figures of each alias over its trainings, oldest first, on the sets on which they were trained; is_new marks what
-- this run computed. CE recovered on a model with random weights is no measure and has no row.
with random_sets as (
    select a.activation_set_id
    from activation_sets as a
    join models as m using (model_id)
    where m.source = 'reinitialised'
),
homes as (
    select dictionary_id, activation_set_id, alias from dictionaries
),
came as (
    select table_name, slice, place from commit_order
),
mine as (
    select distinct fingerprint from stage_runs where run_id = $run_id and state = 'committed'
),
measured as (
    select h.alias as about, concat_ws(' ', m.metric, nullif(m.variant, '')) as metric, m.value, m.fingerprint, c.place
    from dictionary_metrics as m
    join homes as h using (dictionary_id, activation_set_id)
    join came as c on c.table_name = 'dictionary_metrics' and c.slice = m.slice
    where m.split = 'eval' and m.metric in ('fvu', 'l0', 'ce_recovered') and m.variant in ('', 'mean_ablation', 'mean')
        and (m.metric <> 'ce_recovered' or m.activation_set_id not in (select activation_set_id from random_sets))
),
mined as (
    select h.alias, 'unseen share', count_if(f.status = 'unseen') / count(*), any_value(f.fingerprint), max(c.place)
    from features as f
    join homes as h using (dictionary_id, activation_set_id)
    join came as c on c.table_name = 'features' and c.slice = f.slice
    group by f.dictionary_id, h.alias
),
scored as (
    select s.dictionary_id, s.activation_set_id, arg_max(s.fingerprint, c.place) as fingerprint, max(c.place) as place
    from scores as s
    join came as c on c.table_name = 'scores' and c.slice = s.slice
    group by s.dictionary_id, s.activation_set_id
),
labelled as (
    select h.alias, 'labels above chance', q.above_share, s.fingerprint, s.place
    from label_quality as q
    join homes as h using (dictionary_id, activation_set_id)
    join scored as s using (dictionary_id, activation_set_id)
),
matched as (
    select
        concat(a.alias, ' | ', b.alias), concat('match rate ', m.method),
        count_if(m.verdict = 'same') / count(*), any_value(m.fingerprint), max(c.place)
    from matches as m
    join homes as a on a.dictionary_id = m.dictionary_a
    join homes as b on b.dictionary_id = m.dictionary_b
    join came as c on c.table_name = 'matches' and c.slice = m.slice
    where m.rank = 0
    group by m.dictionary_a, m.dictionary_b, m.method, m.activation_sets, a.alias, b.alias
)
select about, metric, value, place, fingerprint in (select fingerprint from mine) as is_new
from (
    select * from measured
    union all select * from mined
    union all select * from labelled
    union all select * from matched
)
where value is not null
order by about, metric, place
