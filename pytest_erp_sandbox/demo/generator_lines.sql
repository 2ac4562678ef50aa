WITH invoice AS (
    SELECT rowid, row_number() OVER (ORDER BY rowid) - 1 AS place FROM llx_facture
)
INSERT INTO llx_facturedet (
    fk_facture, label, description, tva_tx, qty, subprice, total_ht, total_tva, total_ttc, product_type, date_start,
    date_end, rang, import_key
)
SELECT
    invoice.rowid, 'Line ' || n, 'Service number ' || n %% 977 || ', delivered as agreed in order ' || n * 7 %% 100003 || '.',
    20, 1 + n %% 9, n %% 500 + 0.25, (n %% 500 + 0.25) * (1 + n %% 9), (n %% 500 + 0.25) * (1 + n %% 9) * 0.2,
    (n %% 500 + 0.25) * (1 + n %% 9) * 1.2, n %% 2, timestamp '2020-01-01' + n %% 1800 * interval '1 day',
    timestamp '2020-01-31' + n %% 1800 * interval '1 day', n %% 4 + 1, 'generated'
FROM generate_series(1, %(count)s) AS n
JOIN invoice ON invoice.place = n %% (SELECT count(*) FROM llx_facture)
