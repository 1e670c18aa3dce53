-- One document of a corpus.
select document_id, split, n_chars, text, labels
from documents
where corpus_id = $corpus_id and document_id = $document_id
limit 1
