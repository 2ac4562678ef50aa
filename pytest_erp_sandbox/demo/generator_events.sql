WITH party AS (
    SELECT rowid, row_number() OVER (ORDER BY rowid) - 1 AS place FROM llx_societe
)
INSERT INTO llx_actioncomm (
    ref, datep, datep2, code, datec, tms, fk_soc, label, note, percent, location, fk_element, elementtype
)
SELECT
    'EG' || n, timestamp '2020-01-01' + n * interval '5 minutes', timestamp '2020-01-01' + n * interval '6 minutes',
    'AC_BILL_VALIDATE', timestamp '2020-01-01' + n * interval '5 minutes', timestamp '2020-01-01' + n * interval '5 minutes',
    party.rowid, 'Invoice FG' || to_char(n, 'FM0000000000') || ' validated',
    'Author: generated' || chr(10) || 'Invoice FG' || to_char(n, 'FM0000000000') || ' validated for company ' || party.rowid,
    n %% 101, 'Office ' || n %% 40, n, 'invoice'
FROM generate_series(1, %(count)s) AS n
JOIN party ON party.place = n %% (SELECT count(*) FROM llx_societe)
