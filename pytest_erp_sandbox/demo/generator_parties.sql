INSERT INTO llx_societe (
    nom, name_alias, code_client, address, zip, town, fk_pays, phone, email, siren, siret, tva_intra, client,
    outstanding_limit, note_private, datec, tms, import_key
)
SELECT
    'Generated company ' || n, 'Alias of company ' || n, 'CG' || to_char(n, 'FM00000000'), n || ', rue de la Paix',
    to_char(n %% 100000, 'FM00000'), 'Town ' || n %% 5000, 1 + n %% 200, '+33 1 ' || to_char(n, 'FM00000000'),
    'contact' || n || '@company.example', to_char(n, 'FM000000000'), to_char(n, 'FM00000000000000'),
    'FR' || to_char(n, 'FM00000000000'), 1 + n %% 3, n %% 1000 * 100, 'Called on day ' || n %% 365 || '; asked for a quote.',
    timestamp '2020-01-01' + n * interval '37 minutes', timestamp '2024-01-01' + n * interval '7 minutes', 'generated'
FROM generate_series(1, %(count)s) AS n
