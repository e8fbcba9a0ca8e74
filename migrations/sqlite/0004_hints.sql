-- Which eras may have a term. `bucket` and marks come from its hash (src/journal/sqlite/hints.rs). For: a search, which would
-- have to ask each era otherwise. The rows of a bucket lie together.
CREATE TABLE hints (
    bucket INTEGER NOT NULL,            -- from 0 to 31
    era    INTEGER NOT NULL,
    marks  BLOB,                        -- 4 bytes of the hash of each term of the era; NULL: not known, it may have any term
    PRIMARY KEY (bucket, era)
) STRICT, WITHOUT ROWID;

INSERT INTO hints (bucket, era)
    WITH RECURSIVE buckets(bucket) AS (SELECT 0 UNION ALL SELECT bucket + 1 FROM buckets WHERE bucket < 31)
    SELECT bucket, era FROM buckets CROSS JOIN eras ORDER BY bucket, era;

-- A router that knows nothing of them would write eras that no hint tells of.
UPDATE compatibility SET oldest = 4;
