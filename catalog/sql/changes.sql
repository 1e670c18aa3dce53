-- Changes of the last finished run: dictionaries, labels (new, better, worse, lost) and matches, up to a limit of each
-- kind, with the total number of the kind.
with last as (
    select max_by(r.run_id, {'place': coalesce(o.place, -2_000_000_000), 'at': r.started_at}) as run_id
    from runs as r
    left join commit_order as o on o.table_name = 'runs' and o.slice = r.slice
    where r.state <> 'running'
),
written as (
    select distinct s.fingerprint from stage_runs as s join last using (run_id) where s.state = 'committed'
),
touched as (
    select distinct e.dictionary_id, e.feature_index
    from explanations as e
    join dictionaries using (dictionary_id, activation_set_id)
    where e.fingerprint in (select fingerprint from written)
),
scored as (
    select s.explanation_id, s.ci_low
    from scores as s
    semi join touched using (dictionary_id, feature_index)
    where s.metric in ('balanced_accuracy', 'auroc', 'correlation') and s.value is not null
    qualify row_number() over (
        partition by s.explanation_id
        order by -- as in the view explanation_scores
            s.position nulls last, case when s.position is not null then s.created_at end desc, s.scorer, s.judge,
            case s.metric when 'balanced_accuracy' then 0 when 'auroc' then 1 else 2 end,
            case s.variant when 'neighbour' then 0 when 'mixed' then 1 when 'random' then 2 else 3 end, s.created_at desc
    ) = 1
),
labels as (
    select
        e.dictionary_id, e.feature_index, e.text, e.status, {'text': e.text, 'ci_low': s.ci_low} as label,
        {'first': -coalesce(e.position, 1000000), 'at': e.created_at} as turn,
        e.fingerprint in (select fingerprint from written) as is_new
    from explanations as e
    join dictionaries as d using (dictionary_id, activation_set_id) -- labels on other sets are not those of the cards
    semi join touched using (dictionary_id, feature_index)
    left join scored as s using (explanation_id)
),
earlier as (
    select dictionary_id, feature_index, unnest(max_by(label, turn))
    from labels
    where not is_new and status = 'ok'
    group by dictionary_id, feature_index
),
latest as (
    select
        dictionary_id, feature_index,
        unnest(coalesce(max_by(label, turn) filter (where status = 'ok'), {'text': null, 'ci_low': null}))
    from labels
    where is_new
    group by dictionary_id, feature_index
),
changed as (
    select 1 as place, 'new_dictionary' as kind, dictionary_id, null::integer as feature_index, null as before, alias as after,
        0.0 as weight
    from dictionaries
    where fingerprint in (select fingerprint from written)
    union all
    select
        case when n.text is null then 5 when o.text is null then 2 when n.ci_low >= o.ci_low then 3 else 4 end,
        case when n.text is null then 'lost_label' when o.text is null then 'new_label'
            when n.ci_low >= o.ci_low then 'better_label' else 'worse_label' end,
        n.dictionary_id, n.feature_index, o.text, n.text, coalesce(n.ci_low, 0)
    from latest as n
    left join earlier as o using (dictionary_id, feature_index)
    where (n.text is not null or o.text is not null) and n.text is distinct from o.text
    union all
    select 6, 'new_match', dictionary_a, feature_a, null, dictionary_b || '#' || feature_b, score
    from matches
    where mutual and fingerprint in (select fingerprint from written)
)
select kind, dictionary_id, feature_index, before, after, count(*) over (partition by kind) as n_of_kind
from changed
qualify row_number() over (partition by kind order by weight desc, dictionary_id, feature_index) <= $per_kind
order by place, weight desc, dictionary_id, feature_index
limit $limit offset $offset
