-- Every corpus with the one that it grew from, those that do not grow first. No parameters.
select corpus_id, parent_corpus_id
from corpora
order by n_generations nulls first, corpus_id
