Feature: What a rehearsal changes
  Each row that the agent touches is known: nothing happens beside what was asked for.

  Scenario: A new customer is one row, and nothing else
    When the agent calls POST "thirdparties" with:
      | name        | Boulangerie du Fournil |
      | client      | 1                      |
      | code_client | auto                   |
    Then one third party was created with:
      | nom    | Boulangerie du Fournil |
      | client | 1                      |
    And nothing else changed

  Scenario: Looking changes nothing
    When the agent calls GET "thirdparties?limit=5"
    Then nothing changed

  Scenario: What is refused changes nothing
    When the agent calls DELETE "thirdparties/1"
    Then the answer is 409
    And nothing changed

  @demo_erp
  Scenario: An invoice and its lines
    When the agent calls POST "invoices" with the JSON:
      """
      {"socid": 1, "lines": [{"desc": "Galettes", "qty": 12, "subprice": 4.5, "tva_tx": 10},
                             {"desc": "Cidre", "qty": 6, "subprice": 7, "tva_tx": 20}]}
      """
    Then the answer is an id, kept as "invoice"
    And exactly these tables changed:
      | table          | inserted | updated | deleted |
      | llx_facture    | 1        | 0       | 0       |
      | llx_facturedet | 2        | 0       | 0       |
    And the changes are as expected
