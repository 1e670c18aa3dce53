-- Features with their best explanation; every filter is optional, the order is one of a few names. Without a
-- dictionary, features of superseded dictionaries are left out.
with found as materialized (
    select
        f.dictionary_id, f.activation_set_id, f.feature_index, f.status = 'dense' as is_dense, f.density, f.max_activation,
        f.ci_low, f.n_matches, case when $sort in ('label', 'label_down') then f.label_lower end as label_lower
    from feature_cards as f
    where
        case
            when $dictionary_id::varchar is null then f.dictionary_id not in (
                select d.dictionary_id from dictionaries as d join current_aliases as a using (alias)
                where a.dictionary_id <> d.dictionary_id
            )
            else f.dictionary_id = $dictionary_id::varchar
        end
        and ($model_id::varchar is null or f.model_id = $model_id::varchar)
        and ($feature_index::integer is null or f.feature_index = $feature_index::integer)
        and ($status::varchar is null or f.status = $status::varchar)
        and ($density_low::double is null or f.density >= $density_low::double)
        and ($density_high::double is null or f.density <= $density_high::double)
        and ($score_low::double is null or f.ci_low >= $score_low::double)
        and ($matched::boolean is null or (f.n_matches > 0) = $matched::boolean)
        -- One or two words are the usual case, and a lambda costs four times as much.
        and ($words::varchar[] is null or (
            contains(f.label_lower, list_extract($words::varchar[], 1))
            and contains(f.label_lower, coalesce(list_extract($words::varchar[], 2), ''))
            and (len($words::varchar[]) < 3
                or list_bool_and(list_transform($words::varchar[], lambda w: contains(f.label_lower, w))))
        ))
        and ($token::varchar is null or list_contains(list_transform(f.top_tokens, lambda t: lower(trim(t))), lower(trim($token::varchar)))
            or list_bool_or(list_transform(f.top_tokens, lambda t: contains(lower(t), lower($token::varchar)))))
),
shown as (
    select *, row_number() over () as place
    from (
        select *
        from found as f
        order by
            case when $sort = 'score' then is_dense end,
            case when $sort = 'score' then f.ci_low end desc nulls last,
            case when $sort = 'score_up' then f.ci_low end nulls last,
            case when $sort = 'density' then f.density end desc nulls last,
            case when $sort = 'rare' then nullif(f.density, 0) end asc nulls last,
            case when $sort = 'activation' then f.max_activation end desc nulls last,
            case when $sort = 'activation_up' then f.max_activation end nulls last,
            case when $sort = 'matches' then f.n_matches end desc nulls last,
            case when $sort = 'matches_up' then f.n_matches end nulls last,
            case when $sort = 'label' then f.label_lower end nulls last,
            case when $sort = 'label_down' then f.label_lower end desc nulls last,
            case when $sort = 'index_down' then f.feature_index end desc nulls last,
            f.dictionary_id,
            f.feature_index
        limit $limit offset $offset
    )
)
select
    f.dictionary_id,
    f.activation_set_id,
    f.feature_index,
    f.status,
    f.density,
    f.max_activation,
    f.top_tokens,
    f.label,
    f.explainer,
    f.metric,
    f.score,
    f.ci_low,
    f.ci_high,
    f.chance,
    f.above_chance,
    f.n_judged,
    f.n_matches,
    (select count(*) from found) as n_found
from shown
join feature_cards as f using (dictionary_id, activation_set_id, feature_index)
order by shown.place
