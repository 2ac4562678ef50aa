WITH party AS (
    SELECT rowid, row_number() OVER (ORDER BY rowid) - 1 AS place FROM llx_societe
)
INSERT INTO llx_facture (
    ref, ref_client, fk_soc, datec, datef, date_valid, tms, paye, total_ht, total_tva, total_ttc, fk_statut,
    date_lim_reglement, note_public, note_private, import_key
)
SELECT
    'FG' || to_char(n, 'FM0000000000'), 'Order ' || n * 7 %% 100003, party.rowid,
    timestamp '2020-01-01' + n * interval '11 minutes', date '2020-01-01' + n %% 1800, date '2020-01-01' + n %% 1800,
    timestamp '2020-01-01' + n * interval '12 minutes', n %% 2, n %% 5000 + 0.5, (n %% 5000 + 0.5) * 0.2,
    (n %% 5000 + 0.5) * 1.2, 1 + n %% 2, date '2020-01-31' + n %% 1800,
    'Payable within 30 days, without discount. Reference ' || n || '.', 'Generated for company ' || party.rowid, 'generated'
FROM generate_series(1, %(count)s) AS n
JOIN party ON party.place = n %% (SELECT count(*) FROM llx_societe)
