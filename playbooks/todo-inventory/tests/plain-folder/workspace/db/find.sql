SELECT '-- TODO: no';
-- HACK @grace until the index is there
