-- The judged items of one explanation, from the newest scores of each scorer and judge.
select
    scorer, judge, seed, item, dictionary_id, activation_set_id, feature_index, band, rank, truth, answer, probability,
    margin
from judgements
where dictionary_id = $dictionary_id and feature_index = $feature_index and explanation_id = $explanation_id
    and fingerprint in (
        select
            arg_max(s.fingerprint, {'place': coalesce(c.place, -2_000_000_000), 'at': s.created_at, 'unit': s.fingerprint})
        from scores as s
        left join (select slice, place from commit_order where table_name = 'scores') as c using (slice)
        where s.explanation_id = $explanation_id
        group by s.scorer, s.judge
    )
order by scorer, judge, seed, item
limit 500
